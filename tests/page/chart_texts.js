// Each visible text of the charts, with its contrast to what is drawn below it (WCAG) and its size in pixels.
() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgb = colour => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = colour => {
        const [r, g, b] = colour.map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    // Also of a text that is turned.
    const scale = matrix => Math.hypot(matrix.a, matrix.b);
    const inside = (box, x, y) => box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
    return [...document.querySelectorAll('.chart svg text')].filter(text => text.getClientRects().length)
        .map(text => {
            const box = text.getBoundingClientRect();
            const x = box.x + box.width / 2, y = box.y + box.height / 2;
            const card = rgb(getComputedStyle(text.closest('.drill')).backgroundColor).slice(0, 3);
            let ground = card;
            for (const shape of text.ownerSVGElement.querySelectorAll('path, rect')) {
                if (shape.closest('defs') || !inside(shape.getBoundingClientRect(), x, y)) continue;
                const style = getComputedStyle(shape);
                if (style.fill === 'none' || style.fill.startsWith('url')) continue;
                const [r, g, b, a] = rgb(style.fill);
                const opacity = a / 255 * style.opacity * style.fillOpacity;
                ground = [r, g, b].map((part, i) => part * opacity + ground[i] * (1 - opacity));
            }
            const pair = [luminance(rgb(getComputedStyle(text).fill).slice(0, 3)), luminance(ground)];
            return {
                text: text.textContent,
                contrast: (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05),
                pixels: parseFloat(getComputedStyle(text).fontSize) * scale(text.getScreenCTM()),
            };
        });
}
