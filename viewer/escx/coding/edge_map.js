// An edge map: 32 pixels a word, so that the largest map takes 8 MB.

/** Words before and after the pixels of a row, and rows above the map, that stay 0: contexts reach into them. */
const MARGIN = 1;
const ABOVE = 5;

/**
 * Pixels of `height` rows and `width` columns, all 0 at first.
 *
 * Pixel x of row y is bit 31 - (x & 31) of `words[start(y) + (x >> 5)]`.
 */
export class EdgeMap {
  constructor(height, width) {
    this.height = height;
    this.width = width;
    this.stride = ((width + 31) >> 5) + 2 * MARGIN;
    this.words = new Uint32Array(this.stride * (height + ABOVE));
  }

  /** Index in `words` of the first pixel of row y; y may be -5 at least. */
  start(y) {
    return (y + ABOVE) * this.stride + MARGIN;
  }

  /** The pixel at row y and column x: 0 or 1. */
  at(y, x) {
    return (this.words[this.start(y) + (x >> 5)] >>> (~x & 31)) & 1;
  }

  /** Sets the pixels left <= x < right of row y to 1. */
  fill(y, left, right) {
    if (left >= right) return;
    const { words } = this;
    const first = this.start(y) + (left >> 5);
    const last = this.start(y) + ((right - 1) >> 5);
    const head = 0xffffffff >>> (left & 31);
    const tail = 0xffffffff << (31 - ((right - 1) & 31));
    if (first === last) {
      words[first] |= head & tail;
      return;
    }
    words[first] |= head;
    words.fill(0xffffffff, first + 1, last);
    words[last] |= tail;
  }

  /** One byte a pixel in scan order, 0 or 1. */
  toBytes() {
    const { height, width, words } = this;
    const out = new Uint8Array(height * width);
    for (let y = 0, i = 0; y < height; y++) {
      const start = this.start(y);
      for (let x = 0; x < width; x++) out[i++] = (words[start + (x >> 5)] >>> (~x & 31)) & 1;
    }
    return out;
  }

  /** The number of edge pixels. */
  count() {
    let sum = 0;
    for (const word of this.words) if (word) sum += ones(word);
    return sum;
  }
}

/** The number of 1 bits of a 32-bit word. */
export function ones(word) {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
