"""What the link costs and what it saves: direct, HAProxy and the link measured side by side in one run."""
