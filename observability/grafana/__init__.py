"""What Grafana loads."""
