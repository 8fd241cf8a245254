// Checks of one page as it stands: WCAG 2.1 AA contrast as computed from what is painted, names of controls,
// structure of tables and headings, nothing that runs over the window's side. Runs in the page.
export const findFaults = () => {
    const faults = [];
    const place = (element) => {
        const id = element.id ? `#${element.id}` : '';
        const text = (element.textContent || '').trim().slice(0, 40);
        return `<${element.tagName.toLowerCase()}${id} class="${element.getAttribute('class') || ''}"> "${text}"`;
    };
    const isSeen = (element) => {
        const box = element.getBoundingClientRect();
        if (box.width < 2 || box.height < 2) return false;
        for (let at = element; at; at = at.parentElement) {
            const style = getComputedStyle(at);
            if (style.visibility === 'hidden' || style.display === 'none' || style.clipPath !== 'none') return false;
        }
        return true;
    };

    // --- contrast
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const known = new Map();
    const rgba = (color) => {
        if (!known.has(color)) {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            known.set(color, [...canvas.getImageData(0, 0, 1, 1).data].map((v, i) => (i === 3 ? v / 255 : v)));
        }
        return known.get(color);
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const ground = (element) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
        const canvasColor = getComputedStyle(document.documentElement).colorScheme === 'dark' ? [0, 0, 0, 1] : [255, 255, 255, 1];
        return layers.reverse().reduce((below, top) => over(top, below), canvasColor);
    };
    const luminance = (color) => {
        const [r, g, b] = color.slice(0, 3).map((v) => {
            const s = v / 255;
            return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => {
        const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
        return (high + 0.05) / (low + 0.05);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const seen = new Set();
    let lowest = 21;
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
        const element = node.parentElement;
        if (!node.textContent.trim() || seen.has(element) || element.closest('title, option, script') || !isSeen(element)) continue;
        seen.add(element);
        const style = getComputedStyle(element);
        const below = ground(element);
        const color = element instanceof SVGElement ? style.fill : style.color;
        const found = ratio(over(rgba(color), below), below);
        const size = parseFloat(style.fontSize);
        const isLarge = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight, 10) >= 700);
        lowest = Math.min(lowest, found);
        if (found < (isLarge ? 3 : 4.5)) faults.push(`contrast ${found.toFixed(2)}: ${place(element)}`);
    }
    for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
        const border = rgba(getComputedStyle(field).borderTopColor);
        const below = ground(field.parentElement);
        if (isSeen(field) && ratio(over(border, below), below) < 3) faults.push(`border of ${place(field)}: contrast below 3`);
    }

    // --- names
    const nameOf = (element) => {
        const by = element.getAttribute('aria-labelledby');
        if (by) return by.split(' ').map((id) => document.getElementById(id)?.textContent || '').join(' ').trim();
        return (element.getAttribute('aria-label') || element.textContent || element.getAttribute('title') || '').trim();
    };
    for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
        if (![...field.labels].some((label) => label.textContent.trim())) faults.push(`no label: ${place(field)}`);
    }
    for (const element of document.querySelectorAll('a, button, summary, nav, [role=region], [role=img], meter')) {
        if (!nameOf(element)) faults.push(`no name: ${place(element)}`);
    }
    for (const image of document.querySelectorAll('img:not([alt])')) faults.push(`no alt: ${place(image)}`);
    for (const table of document.querySelectorAll('table')) {
        for (const header of table.querySelectorAll('th'))
            if (!header.getAttribute('scope')) faults.push(`no scope: ${place(header)}`);
        if (!table.querySelector('thead th')) faults.push(`no headers: ${place(table)}`);
    }
    const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
    for (const id of new Set(ids.filter((one, i) => ids.indexOf(one) !== i))) faults.push(`id twice: ${id}`);
    for (const element of document.querySelectorAll('[aria-labelledby], [aria-describedby]'))
        for (const attribute of ['aria-labelledby', 'aria-describedby'])
            for (const id of (element.getAttribute(attribute) || '').split(' ').filter(Boolean))
                if (!document.getElementById(id)) faults.push(`${attribute} names nothing: ${place(element)}`);

    // --- structure
    if (!document.documentElement.lang) faults.push('no language');
    if (!document.title.trim()) faults.push('no title');
    if (document.querySelectorAll('main').length !== 1) faults.push('not one main');
    if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
    let level = 0;
    for (const heading of document.querySelectorAll('h1, h2, h3, h4')) {
        const here = Number(heading.tagName[1]);
        if (here > level + 1) faults.push(`heading level skipped: ${place(heading)}`);
        level = here;
    }
    if (document.documentElement.scrollWidth > document.documentElement.clientWidth + 1)
        faults.push(`wider than the window: ${document.documentElement.scrollWidth} of ${document.documentElement.clientWidth}`);
    for (const element of document.querySelectorAll('a, button, input:not([type=hidden]), select, summary')) {
        const box = element.getBoundingClientRect();
        const isInText = getComputedStyle(element).display === 'inline';
        if (isSeen(element) && !isInText && (box.height < 24 || box.width < 24)) faults.push(`smaller than 24 px: ${place(element)}`);
    }
    return { faults, lowest };
};
