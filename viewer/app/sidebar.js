// The side of the page: what is in the file, what its bytes are spent on, its classes.

import { byId, byteBar, count, counted, el, seedText, size } from './dom.js';

const MOST_CLASSES = 300; // shown at once

/** Shows the facts of an open library. */
export function showFacts(library) {
  const { total, classes, head, minor, places, recipes, seeds } = library;
  const list = el('dl');
  const add = (term, value) => list.append(el('dt', {}, term), el('dd', {}, el('bdi', {}, value)));
  add('Size', `${size(library.size)} (${count(library.size)} bytes)`);
  add('Exemplars', total ? `${count(total)}, ${size(library.size / total)} each` : 'none');
  add('Classes', count(classes.length));
  add('Blocks', count(places.starts.length - 1));
  if (recipes.length) add('Presets', [...new Set(recipes.map(({ preset }) => preset ?? 'hires'))].join(', '));
  if (seeds.length) add('Seeds', shortened(seedText(seeds)));
  if (head.source) add('Data folder', shortened(head.source));
  add('Format', `1.${minor}${head.writer ? `, ${shortened(head.writer)}` : ''}`);
  byId('facts').replaceChildren(list);
}

function shortened(text) {
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

/** Shows what the bytes of the blocks that were looked at are spent on; `sizes` is their sum. */
export function showBytes(library, sizes, { done, blocks }) {
  const whole = done === blocks;
  const known = sizes.maps + sizes.hints + sizes.images + sizes.pictures;
  const rest = whole ? library.size - known : sizes.other;
  const parts = [
    { name: 'edge maps', bytes: sizes.maps, tone: 'prompt' },
    { name: 'hints', bytes: sizes.hints, tone: 'hint' },
    { name: 'real images', bytes: sizes.images, tone: 'real' },
    { name: 'learned pictures', bytes: sizes.pictures, tone: 'latent' },
    { name: 'names, facts, index', bytes: rest, tone: 'other' },
  ];
  const [prompts, real, pictures] = sizes.kinds;
  const kinds = [
    prompts ? counted(prompts, 'prompt') : null,
    real ? `${count(real)} real` : null,
    pictures ? counted(pictures, 'learned picture') : null,
  ].filter(Boolean);
  const note = whole ? kinds.join(', ') : `of ${count(done)} of ${counted(blocks, 'block')} so far: ${kinds.join(', ')}`;
  byId('bytes').replaceChildren(byteBar(parts, 'Bytes of the file by part'), el('p', { class: 'small' }, note));
}

/** The list of classes, of which one may be chosen. */
export class ClassList {
  constructor(choose) {
    this.choose = choose;
    this.input = byId('class-filter');
    this.list = byId('classes');
    this.input.addEventListener('input', () => this.#draw());
    this.input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.list.querySelector('button')?.click();
    });
  }

  /** Shows the classes of a library, `chosen` marked (a class name or null). */
  show(library, chosen) {
    this.library = library;
    this.chosen = chosen;
    this.most = library.classCounts.reduce((one, other) => Math.max(one, other), 1);
    byId('class-tools').hidden = library.classes.length <= 12;
    this.#draw();
  }

  #draw() {
    const { classes, classCounts } = this.library;
    const text = this.input.value.trim().toLowerCase();
    const found = [];
    let more = 0;
    for (let i = 0; i < classes.length; i++) {
      if (text && !classes[i].toLowerCase().includes(text)) continue;
      if (found.length < MOST_CLASSES) found.push(i);
      else more++;
    }
    const items = found.map((i) => {
      const chosen = classes[i] === this.chosen;
      const bar = el('i', {});
      bar.style.width = `${(100 * classCounts[i]) / this.most}%`;
      const press = () => this.choose(chosen ? null : classes[i]);
      const name = el('bdi', { title: classes[i] }, classes[i]);
      return el('li', {}, el('button', { type: 'button', 'aria-pressed': String(chosen), onclick: press }, bar, name, el('span', {}, count(classCounts[i]))));
    });
    if (more) items.push(el('li', { class: 'small' }, `and ${count(more)} more: type to find them`));
    if (!items.length) items.push(el('li', { class: 'small' }, 'no class has this in its name'));
    this.list.replaceChildren(...items);
  }
}
