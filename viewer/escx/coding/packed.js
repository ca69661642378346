// Coding 0, `packed`: one bit a pixel (spec/FORMAT.md, "Coding 0: packed").

import { need } from '../errors.js';
import { EdgeMap } from './edge_map.js';

/** The map of `height` x `width` pixels in `bytes`, a Uint8Array. */
export function decodePacked(bytes, height, width) {
  const pixels = height * width;
  need(bytes.length === Math.ceil(pixels / 8), 'M32', `packed: ${bytes.length} bytes for ${pixels} pixels`);
  const slack = bytes.length * 8 - pixels;
  need(!slack || !(bytes[bytes.length - 1] & ((1 << slack) - 1)), 'M33', 'packed: a 1 after the last pixel');
  const map = new EdgeMap(height, width);
  const { words } = map;
  const wordAt = (bit) => {
    const i = Math.floor(bit / 8);
    const shift = bit & 7;
    const high = (bytes[i] << 24) | (bytes[i + 1] << 16) | (bytes[i + 2] << 8) | bytes[i + 3]; // beyond the end: 0
    return shift ? (high << shift) | (bytes[i + 4] >> (8 - shift)) : high;
  };
  const rest = width & 31;
  for (let y = 0; y < height; y++) {
    const start = map.start(y);
    const n = (width + 31) >> 5;
    for (let i = 0; i < n; i++) words[start + i] = wordAt(y * width + i * 32);
    if (rest) words[start + n - 1] &= -1 << (32 - rest);
  }
  return map;
}
