// Pixels to look at: edge maps made smaller, and an approximate picture of what a prompt stands for.

const BOOST = 2.2; // thin lines of a map that is made smaller would fade

/** {width, height, share} of a map with at most `side` pixels a side: how much of each pixel is edge, 0..1. */
export function coverage(map, side) {
  const scale = Math.min(1, side / Math.max(map.width, map.height));
  const width = Math.max(1, Math.round(map.width * scale));
  const height = Math.max(1, Math.round(map.height * scale));
  const share = new Float32Array(width * height);
  const columns = Uint16Array.from({ length: map.width }, (_, x) => Math.floor((x * width) / map.width));
  for (let y = 0; y < map.height; y++) {
    const row = Math.floor((y * height) / map.height) * width;
    const start = map.start(y);
    for (let i = 0, words = (map.width + 31) >> 5; i < words; i++) {
      let word = map.words[start + i];
      while (word) {
        const bit = Math.clz32(word);
        word &= ~(0x80000000 >>> bit);
        share[row + columns[i * 32 + bit]]++;
      }
    }
  }
  const least = ((map.width / width) * map.height) / height;
  const factor = least > 1 ? BOOST / least : 1;
  for (let i = 0; i < share.length; i++) share[i] = Math.min(1, share[i] * factor);
  return { width, height, share };
}

/** ImageData in one colour [r, g, b] whose opacity is the share of edge. */
export function alphaOf({ width, height, share }, [red, green, blue]) {
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  const colour = (blue << 16) | (green << 8) | red;
  for (let i = 0; i < share.length; i++) if (share[i]) words[i] = colour | (Math.round(share[i] * 255) << 24);
  return image;
}

/** A bitmap enlarged to `width` x `height`: ImageData. */
export function grow(bitmap, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

const WEAK = 0.003; // how much colour passes an edge
const PULL = 0.02; // of the hint's colours on a pixel
const SWEEPS = 48;
const SHADE = 0.25; // how much darker an edge is drawn

/**
 * The colours of `start`, ImageData, spread inside the outlines of a map, `marks` (see `coverage`): ImageData.
 *
 * Each pixel becomes the mean of its neighbours, of which those beyond an edge hardly count, drawn to its first colour.
 */
export function spread(start, marks) {
  const { width, height, share } = marks;
  const size = width * height;
  const right = new Float32Array(size); // links to the pixels at the right and below; 0 at the border
  const below = new Float32Array(size);
  const open = share.map((value) => Math.max(WEAK, 1 - value));
  for (let i = 0; i < size; i++) {
    if ((i + 1) % width) right[i] = Math.min(open[i], open[i + 1]);
    if (i + width < size) below[i] = Math.min(open[i], open[i + width]);
  }
  const scale = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    scale[i] = 1 / (PULL + right[i] + below[i] + (i ? right[i - 1] : 0) + (i >= width ? below[i - width] : 0));
  }
  const out = new ImageData(width, height);
  for (let channel = 0; channel < 3; channel++) {
    const goal = Float32Array.from(share, (_, i) => PULL * start.data[4 * i + channel]);
    const values = goal.map((value) => value / PULL);
    for (let sweep = 0; sweep < SWEEPS; sweep++) relax(values, goal, scale, right, below, width, sweep & 1);
    for (let i = 0; i < size; i++) out.data[4 * i + channel] = values[i] * (1 - SHADE * share[i]);
  }
  for (let i = 0; i < size; i++) out.data[4 * i + 3] = 255;
  return out;
}

/** One sweep over all pixels, from the top or from the bottom. */
function relax(values, goal, scale, right, below, width, back) {
  const size = values.length;
  const last = size - width;
  for (let step = 0; step < size; step++) {
    const i = back ? size - 1 - step : step;
    let sum = goal[i];
    if (i > 0) sum += right[i - 1] * values[i - 1];
    if (i < size - 1) sum += right[i] * values[i + 1];
    if (i >= width) sum += below[i - width] * values[i - width];
    if (i < last) sum += below[i] * values[i + width];
    values[i] = sum * scale[i];
  }
}
