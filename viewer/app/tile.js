// What a tile of the grid shows: first its text, then its hint, then its edge map or picture. A hint that is a learned
// picture takes a worker as long as several maps, so there the map comes first.

import { isDrawn } from './library.js';

/** The colours that canvases are drawn in, from the style sheet. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue('--map-ink').trim();
  const rgb = [1, 3, 5].map((at) => parseInt(ink.slice(at, at + 2), 16));
  return { ink: rgb, over: [0, 0, 0], blank: '#b0b0b0', paper: style.getPropertyValue('--map-paper').trim(), ground: style.getPropertyValue('--raised').trim() };
}

const KIND_WORDS = { prompt: 'prompt', real: 'real', latent: 'picture' };

/** Fills a tile of the grid for exemplar `number` of a library. `onFault` is told what cannot be read. */
export async function fillTile(tile, library, number, side) {
  const token = Symbol(number);
  tile.token = token;
  const wanted = () => tile.token === token && !tile.hidden && tile.isConnected;
  describe(tile, library.known(number), number);
  prepare(tile.canvas, side);
  try {
    const exemplar = await library.exemplar(number);
    if (!wanted()) return;
    describe(tile, exemplar, number);
    const { row, hint } = exemplar;
    const theme = colours();
    const [height, width] = row.mapSize ?? row.size;
    const hinted = isDrawn(row, hint);
    const device = Math.round(side * devicePixelRatio);
    const shown = { row, height, width, hinted, hintBitmap: null, bitmap: null, theme };
    const takeHint = async () => {
      shown.hintBitmap = hinted ? await library.hintBitmap(number, wanted) : null;
    };
    const takePicture = async () => {
      shown.bitmap = await library.thumbnail(number, device, hinted ? theme.over : theme.ink, wanted);
    };
    const slow = hinted && row.hintCodec !== 0;
    let fault = null;
    for (const take of slow ? [takePicture, takeHint] : [takeHint, takePicture]) {
      await take().catch((error) => (fault = error));
      if (!wanted()) return;
      drawTile(tile.canvas, shown);
      if (shown.hintBitmap || shown.bitmap) tile.classList.add('shown');
      if (shown.hintBitmap) tile.classList.add('hinted');
    }
    if (fault) throw fault;
    if (shown.bitmap) tile.classList.add('ready');
  } catch (error) {
    if (!wanted()) return;
    tile.classList.add('fault');
    tile.title = error.message;
    tile.title2.textContent = error.message;
  }
}

function describe(tile, exemplar, number) {
  tile.classList.remove('fault', 'shown', 'hinted', 'ready');
  tile.title = '';
  if (!exemplar) {
    tile.title1.textContent = `#${number}`;
    tile.title2.textContent = '';
    tile.kind.textContent = '';
    tile.kind.className = 'kind';
    return;
  }
  const { row } = exemplar;
  tile.title1.textContent = row.name || `#${number}`;
  tile.title2.textContent = row.prompt && row.prompt !== row.class ? `${row.class} · ${row.prompt}` : row.class;
  tile.title = `${row.class}/${row.name || `#${number}`}`;
  tile.kind.textContent = KIND_WORDS[row.kind];
  tile.kind.className = `kind ${row.kind}`;
}

function prepare(canvas, side) {
  const device = Math.round(side * devicePixelRatio);
  canvas.style.width = canvas.style.height = `${side}px`;
  canvas.width = canvas.height = device; // also clears it
}

function drawTile(canvas, { row, height, width, hinted, hintBitmap, bitmap, theme }) {
  const context = canvas.getContext('2d');
  const device = canvas.width;
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, device, device);
  if (!height || !width) return;
  const scale = device / Math.max(height, width);
  const w = Math.max(1, Math.round(width * scale));
  const h = Math.max(1, Math.round(height * scale));
  const x = Math.round((device - w) / 2);
  const y = Math.round((device - h) / 2);
  context.fillStyle = row.kind === 'prompt' ? (hinted ? theme.blank : theme.paper) : theme.ground;
  context.fillRect(x, y, w, h);
  context.imageSmoothingEnabled = true;
  if (hintBitmap) {
    context.imageSmoothingQuality = 'high';
    context.drawImage(hintBitmap, x, y, w, h);
  }
  if (!bitmap) return;
  context.imageSmoothingEnabled = bitmap.width > w / 3; // few pixels stay squares
  context.globalAlpha = hintBitmap ? 0.8 : 1;
  context.drawImage(bitmap, x, y, w, h);
  context.globalAlpha = 1;
}
