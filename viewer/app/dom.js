// Elements and words.

/** An element with properties, or attributes where the name has a dash; children are elements or texts. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.includes('-') || key === 'role') element.setAttribute(key, value);
    else if (key === 'class') element.className = value;
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

const NUMBER = new Intl.NumberFormat('en-US');

/** 12345 as 12,345. */
export function count(value) {
  return NUMBER.format(value);
}

/** `count` of a thing: 1 exemplar, 2 exemplars. */
export function counted(value, thing) {
  return `${count(value)} ${thing}${value === 1 ? '' : thing.endsWith('s') ? 'es' : 's'}`;
}

/** Bytes for people: 512 B, 2.5 KB, 1.2 GB; steps of 1000. */
export function size(bytes) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit && value < 99.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A share in per cent. */
export function share(part, whole) {
  if (!whole || !part) return '0 %';
  const percent = (100 * part) / whole;
  return percent < 0.1 ? '< 0.1 %' : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

/** Runs of seeds: 0–4, 10. */
export function seedText(runs) {
  const parts = [];
  for (let i = 0; i < runs.length; i += 2) parts.push(runs[i] === runs[i + 1] ? `${runs[i]}` : `${runs[i]}–${runs[i + 1]}`);
  return parts.join(', ') || 'none';
}

/** A bar of parts with its legend. `parts`: [{name, bytes, tone}]; those without bytes are left out. */
export function byteBar(parts, label) {
  const shown = parts.filter(({ bytes }) => bytes > 0);
  const whole = shown.reduce((sum, { bytes }) => sum + bytes, 0);
  const bar = el('div', { class: 'bar', role: 'img', 'aria-label': label });
  const legend = el('ul', { class: 'legend' });
  for (const { name, bytes, tone } of shown) {
    const piece = el('i', { class: `tone-${tone}`, title: `${name}: ${count(bytes)} bytes` });
    piece.style.flexGrow = bytes / whole;
    bar.append(piece);
    legend.append(
      el('li', {}, el('i', { class: `tone-${tone}` }), el('span', {}, name), el('b', {}, size(bytes)), el('small', {}, share(bytes, whole))),
    );
  }
  return el('div', { class: 'bytes' }, bar, legend);
}
