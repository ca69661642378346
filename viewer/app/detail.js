// The page of one exemplar.

import { byteBar, count, counted, el, seedText, size } from './dom.js';
import { isDrawn } from './library.js';
import { colours } from './tile.js';
import { CODINGS } from '../escx/coding/codings.js';

const SHOWN = 1600; // pixels a side at most
const PREVIEW = 384;
const SAVED = 8192;

/** Shows exemplars in `dialog`. `step(by)` moves on, `closed()` is called when the dialog was closed. */
export class Detail {
  constructor(dialog, { step, closed }) {
    this.dialog = dialog;
    this.token = null;
    const move = (by, word, sign) =>
      el('button', { type: 'button', class: 'move', title: `${word} (${by < 0 ? '←' : '→'})`, 'aria-label': word, onclick: () => step(by) }, sign);
    this.head = el('h2', { id: 'detail-title' });
    this.place = el('p', { class: 'place' });
    this.body = el('div', { class: 'detail-body', tabIndex: -1, autofocus: true });
    const close = el('button', { type: 'button', class: 'move', title: 'Close (Esc)', 'aria-label': 'Close', onclick: () => dialog.close() }, '✕');
    const titles = el('div', { class: 'titles' }, this.head, this.place);
    dialog.append(el('header', {}, move(-1, 'Previous', '←'), move(1, 'Next', '→'), titles, close), this.body);
    dialog.setAttribute('aria-labelledby', 'detail-title');
    dialog.addEventListener('close', closed);
    dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
    dialog.addEventListener('keydown', (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === 'ArrowLeft') step(-1);
      else if (event.key === 'ArrowRight') step(1);
    });
  }

  /** Draws anew at the next call of `show`. */
  forget() {
    this.number = null;
  }

  /** Shows exemplar `number` of a library. */
  async show(library, number, place) {
    this.place.textContent = place;
    if (this.dialog.open && this.library === library && this.number === number) return; // only its place is new
    Object.assign(this, { library, number });
    const token = Symbol(number);
    this.token = token;
    const here = () => this.token === token;
    if (!this.dialog.open) this.dialog.showModal();
    this.head.textContent = `#${number}`;
    try {
      const exemplar = await library.exemplar(number);
      if (!here()) return;
      const { row } = exemplar;
      this.head.replaceChildren(el('bdi', {}, row.name || `#${number}`), ' ', el('span', { class: `kind ${row.kind}` }, kindWord(row)));
      const pictures = el('div', { class: 'pictures' });
      this.body.replaceChildren(pictures, facts(library, number, exemplar));
      this.body.scrollTop = 0;
      await Promise.all(figures(library, number, exemplar, pictures, here));
    } catch (error) {
      if (here()) this.body.replaceChildren(el('p', { class: 'notice' }, error.message));
    }
  }
}

function kindWord(row) {
  return row.kind === 'latent' ? 'learned picture' : row.kind;
}

/** Adds the figures of an exemplar to `pictures`; promises of those that are drawn. */
function figures(library, number, { row, hint }, pictures, here) {
  const drawn = [];
  const figure = (title, note, make, large = false) => {
    const canvas = el('canvas', { role: 'img', 'aria-label': `${title} of ${row.name || `#${number}`}` });
    const caption = el('figcaption', {}, el('strong', {}, title), ' ', el('span', {}, note));
    const element = el('figure', { class: large ? 'large' : '' }, el('div', { class: 'frame' }, canvas), caption);
    pictures.append(element);
    const failed = (error) => here() && canvas.replaceWith(el('p', { class: 'notice' }, error.message));
    drawn.push(make(canvas, caption).catch(failed));
  };
  const [height, width] = row.size;
  if (row.kind === 'real') {
    figure('Original', `${width} × ${height}`, (canvas, caption) => drawImage(library, number, row, canvas, caption), true);
  } else if (row.kind === 'prompt') {
    const [h, w] = row.mapSize;
    figure('Edge map', `${w} × ${h}`, (canvas, caption) => drawMap(library, number, row, canvas, caption), true);
    if (isDrawn(row, hint)) {
      figure('Preview', 'approximate: the hint spread inside the outlines, not what a regenerator makes', async (canvas) =>
        paint(canvas, await library.preview(number, PREVIEW)), true);
      figure('Colour hint', `${size(row.hintLength)}, as it is stored`, async (canvas, caption) => {
        const bitmap = await library.hintBitmap(number);
        if (!bitmap) return;
        paint(canvas, bitmap);
        canvas.classList.add('pixels');
        caption.querySelector('span').textContent = `${bitmap.width} × ${bitmap.height}, ${size(row.hintLength)}, as it is stored`;
      });
    } else if (hint) {
      pictures.append(el('p', { class: 'notice' }, `The hint has ${counted(row.hintLength, 'byte')} under codec ${row.hintCodec}, which this viewer does not draw yet.`));
    }
  } else {
    const note = `${size(row.payloadLength)}, as it is stored`;
    figure('Learned picture', note, (canvas, caption) => drawLatent(library, number, row, canvas, caption), true);
  }
  return drawn;
}

async function drawMap(library, number, row, canvas, caption) {
  const theme = colours();
  const { bitmap, edges } = await library.picture(number, SHOWN, theme.ink);
  if (!bitmap) throw new Error('The edge map has no pixels.');
  paint(canvas, bitmap, theme.paper);
  canvas.classList.toggle('pixels', bitmap.width < 200);
  const [h, w] = row.mapSize;
  const bits = (8 * row.payloadLength) / (h * w);
  caption.querySelector('span').textContent = `${w} × ${h}, ${count(edges)} edge pixels, ${bits.toFixed(3)} bit a pixel`;
  caption.append(' ', saver('Save as PNG', () => savedMap(library, number), fileName(row, number, '.png')));
}

async function drawImage(library, number, row, canvas, caption) {
  const bytes = await library.payload(number);
  caption.append(' ', saver('Save', async () => new Blob([bytes]), fileName(row, number, '')));
  const { bitmap, type } = await library.picture(number, SHOWN);
  paint(canvas, bitmap);
  caption.querySelector('span').textContent = `${row.size[1]} × ${row.size[0]}, ${type.split('/')[1].toUpperCase()}, ${size(row.payloadLength)}`;
}

async function drawLatent(library, number, row, canvas, caption) {
  const { bitmap } = await library.picture(number, SHOWN);
  paint(canvas, bitmap);
  canvas.classList.add('pixels');
  caption.querySelector('span').textContent = `${bitmap.width} × ${bitmap.height}, ${size(row.payloadLength)}, as it is stored`;
}

function paint(canvas, bitmap, paper = null) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext('2d');
  if (paper) {
    context.fillStyle = paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.drawImage(bitmap, 0, 0);
}

/** The edge map as a PNG file, white on black as `escort decode --edges` writes it. */
async function savedMap(library, number) {
  const { bitmap } = await library.picture(number, SAVED, [255, 255, 255]);
  const canvas = document.createElement('canvas');
  paint(canvas, bitmap, '#000000');
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}

function saver(label, make, name) {
  const save = async () => {
    const address = URL.createObjectURL(await make());
    el('a', { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  };
  return el('button', { type: 'button', class: 'link', onclick: save }, label);
}

function fileName(row, number, ending) {
  const name = (row.name || `${row.class}-${number}`).split('/').at(-1);
  return ending ? name.replace(/\.[^.]*$/, '') + ending : name;
}

function facts(library, number, { row, tableShare }) {
  const list = el('dl');
  const add = (term, ...value) => list.append(el('dt', {}, term), el('dd', {}, ...value));
  add('Class', el('bdi', {}, row.class));
  if (row.name) add('Name', el('bdi', {}, row.name));
  add('Number', count(number));
  if (row.kind === 'prompt') add('Prompt', row.prompt === '' ? el('em', {}, 'empty') : el('bdi', {}, row.prompt));
  else if (row.prompt !== row.class) add('Prompt', el('bdi', {}, row.prompt));
  add('Source image', `${row.size[1]} × ${row.size[0]} pixels`);
  if (row.made) add('Edge map made by', madeText(row.made));
  if (row.coding !== null) add('Coding', CODINGS[row.coding] ?? `number ${row.coding}`);
  add('Seeds', seedText(row.seedRuns));
  const parts = [
    { name: { prompt: 'edge map', real: 'image file', latent: 'learned picture' }[row.kind], bytes: row.payloadLength, tone: row.kind },
    { name: 'hint', bytes: row.hintLength, tone: 'hint' },
    { name: 'its share of names and facts', bytes: Math.round(tableShare), tone: 'other' },
  ];
  const all = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const recipe = el('dl');
  for (const [key, value] of Object.entries(library.recipes[row.recipe])) {
    const text = typeof value === 'object' ? Object.entries(value).map((pair) => pair.join(' ')).join(', ') : String(value);
    recipe.append(el('dt', {}, key.replaceAll('_', ' ')), el('dd', {}, el('bdi', {}, text)));
  }
  return el(
    'div',
    { class: 'facts' },
    el('section', {}, list),
    el('section', {}, el('h3', {}, `Bytes: ${count(all)}`), byteBar(parts, 'Bytes of this exemplar by part')),
    el('section', {}, el('h3', {}, `Recipe ${row.recipe}`), recipe),
  );
}

function madeText({ low, high, blur, min_contour: contour }) {
  const blurred = blur ? `, blur ${blur}` : '';
  return `Canny ${low}/${high}${blurred}${contour ? `, contours of at least ${counted(contour, 'pixel')}` : ''}`;
}
