// The integers of a learned picture (spec/latent-1.md, "Bytes" and "Coding of the latents").
//
// Sums have up to 40 bits: they are doubles, which hold them exactly; divisions round towards minus infinity.

import { RangeDecoder } from '../coding/range_coder.js';
import { need } from '../errors.js';
import { CAPS } from '../limits.js';

const CHANNELS = 64;
const INPUTS = 129;
const CONTEXT = 96;
const HIDDEN = 128;
const TAPS = 12;
const GROUPS = [0, 1, 3, 6, 10, 16, 24, 40, 64];
const UNITS = 16; // hidden units of a group
const NODES = 30;
const MOST = 255;

/** {quality, height, width, start} of a learned picture. */
export function readPictureHead(bytes) {
  need(bytes.length && bytes[0] === 1, 'M38', `a picture of model ${bytes[0]}, which this viewer does not know`);
  need(bytes.length <= CAPS.latent, 'M26', `a learned picture of ${bytes.length} bytes is above the cap`);
  need(bytes.length > 1 && bytes[1] < 64, 'L1', `a picture of quality ${bytes[1]}`);
  const sides = [];
  let at = 2;
  for (let i = 0; i < 2; i++) {
    const low = bytes[at];
    const high = low & 128 ? bytes[at + 1] : 0;
    need(low !== undefined && high !== undefined && !(low & 128 && !high), 'L1', "a picture's head is cut off, or not the shortest");
    sides.push(((low & 127) | (high << 7)) + 1);
    at += low & 128 ? 2 : 1;
  }
  const [height, width] = sides;
  need(height <= CAPS.latentSide && width <= CAPS.latentSide, 'L1', `a picture of ${width} x ${height} pixels`);
  return { quality: bytes[1], height, width, start: at };
}

/** {quality, height, width, rows, columns, values}: the latents, Int16Array (rows, columns, 64), of a picture. */
export function readLatents(bytes, tables) {
  const { quality, height, width, start } = readPictureHead(bytes);
  const rows = Math.ceil(height / 8);
  const columns = Math.ceil(width / 8);
  const values = new Int16Array(rows * columns * CHANNELS);
  const coder = new RangeDecoder(bytes.subarray(start), 'L2', 'a learned picture');
  const position = new Position(coder, tables, quality, { rows, columns, values });
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) position.decode(row, column);
  coder.end();
  return { quality, height, width, rows, columns, values };
}

/** Decodes one position after another. */
class Position {
  constructor(coder, tables, quality, grid) {
    Object.assign(this, { coder, tables, quality, grid });
    this.context = new Float64Array(CONTEXT); // X
    this.own = new Float64Array(CHANNELS); // Y
    this.hidden = new Float64Array(HIDDEN); // Z
    this.out = new Float64Array(2 * CHANNELS); // what the context and the hidden units so far say
    this.here = new Int16Array(CHANNELS);
  }

  decode(row, column) {
    this.#lookAround(row, column);
    const { grid, here, own, out, tables } = this;
    here.fill(0);
    for (let group = 0; group + 1 < GROUPS.length; group++) {
      this.#lookHere(group);
      for (let k = GROUPS[group]; k < GROUPS[group + 1]; k++) {
        let a = own[k];
        let b = 0;
        for (let i = 0; i < k; i++) {
          if (!here[i]) continue;
          a += here[i] * tables.earlierMean[i * CHANNELS + k];
          b += loud(here[i]) * tables.earlierScale[i * CHANNELS + k];
        }
        here[k] = this.#choose(out[k] + 256 * a, out[CHANNELS + k] + 256 * b);
      }
    }
    grid.values.set(here, (row * grid.columns + column) * CHANNELS);
  }

  /** X, Y and the part of the predictions that comes from the context alone. */
  #lookAround(row, column) {
    const { grid, tables, quality, context, own, out } = this;
    for (let j = 0; j < CONTEXT; j++) context[j] = tables.contextBias[quality * CONTEXT + j];
    own.fill(0);
    for (let tap = 0; tap < TAPS; tap++) {
      const r = row + Math.floor(tap / 5) - 2;
      const c = column + (tap % 5) - 2;
      if (r < 0 || c < 0 || c >= grid.columns) continue;
      const from = (r * grid.columns + c) * CHANNELS;
      const weights = tap * INPUTS;
      addRow(context, tables.neighbours, (weights + INPUTS - 1) * CONTEXT, 1);
      for (let k = 0; k < CHANNELS; k++) {
        const y = grid.values[from + k];
        if (!y) continue;
        addRow(context, tables.neighbours, (weights + k) * CONTEXT, y);
        addRow(context, tables.neighbours, (weights + CHANNELS + k) * CONTEXT, loud(y));
        own[k] += y * tables.own[tap * CHANNELS + k];
      }
    }
    for (let j = 0; j < CONTEXT; j++) context[j] = limited(Math.floor((context[j] + 8) / 16));
    for (let k = 0; k < 2 * CHANNELS; k++) out[k] = 256 * tables.outBias[quality * 2 * CHANNELS + k];
    for (let j = 0; j < CONTEXT; j++) if (context[j]) addRow(out, tables.outContext, j * 2 * CHANNELS, context[j]);
  }

  /** The hidden units of a group, and what they add to the predictions. */
  #lookHere(group) {
    const { tables, context, hidden, here, out } = this;
    for (let m = group * UNITS; m < (group + 1) * UNITS; m++) {
      let sum = 256 * tables.middleBias[m];
      for (let j = 0; j < CONTEXT; j++) sum += context[j] * tables.middle[j * HIDDEN + m];
      for (let i = 0; i < GROUPS[group]; i++) {
        if (!here[i]) continue;
        sum += 256 * here[i] * tables.middleHere[i * HIDDEN + m];
        sum += 256 * loud(here[i]) * tables.middleHere[(CHANNELS + i) * HIDDEN + m];
      }
      hidden[m] = limited(Math.floor((sum + 2048) / 4096));
      if (hidden[m]) addRow(out, tables.outHere, m * 2 * CHANNELS, hidden[m]);
    }
  }

  /** The latent that the bytes say, for the sums `a` and `b` of its prediction. */
  #choose(a, b) {
    const { tables, coder } = this;
    const mean = Math.min(Math.max(Math.floor((a + 2048) / 4096), -65280), 65280);
    const scale = tables.scaleIndex[Math.min(Math.max(Math.floor((b + 2048) / 4096) + 2048, 0), 8191) >> 4];
    const centre = (mean + 128) >> 8;
    const p = (scale * 16 + ((mean - 256 * centre + 128) >> 4)) * NODES;
    const { probabilities } = tables;
    if (!coder.choice(probabilities[p])) return checked(centre);
    const down = coder.choice(probabilities[p + 1]);
    const first = p + (down ? 16 : 2);
    let far = 1;
    while (far <= 14 && coder.choice(probabilities[first + far - 1])) far++;
    if (far > 14) {
      let zeros = 0;
      while (!coder.choice(32768)) need(++zeros <= 9, 'L3', 'a latent is out of range');
      let rest = 1;
      for (let i = 0; i < zeros; i++) rest = 2 * rest + coder.choice(32768);
      far = 14 + rest;
    }
    return checked(down ? centre - far : centre + far);
  }
}

function checked(latent) {
  need(latent >= -MOST && latent <= MOST, 'L3', 'a latent is out of range');
  return latent;
}

function loud(y) {
  return Math.min(Math.abs(y), 8);
}

function limited(x) {
  return x < 0 ? 0 : x > 32767 ? 32767 : x;
}

function addRow(sums, weights, at, factor) {
  for (let j = 0; j < sums.length; j++) sums[j] += factor * weights[at + j];
}
