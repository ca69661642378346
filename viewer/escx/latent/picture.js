// Latents to pixels: the decoder of model 1 (spec/latent-1.md, "Pixels"), a few convolutions in plain JavaScript.
//
// Planes are kept position by position, all channels of one together: index (row * columns + column) * channels + k.

import { readLatents } from './latents.js';

const CHANNELS = 64;

/** {width, height, data} of a learned picture, `data` in RGBA as ImageData has it. `model`: see unpackModel. */
export function decodePicture(bytes, model) {
  const { quality, height, width, rows, columns, values } = readLatents(bytes, model.tables);
  const planes = new Float32Array(rows * columns * (CHANNELS + 1));
  for (let i = 0; i < rows * columns; i++) {
    for (let k = 0; k < CHANNELS; k++) {
      planes[i * (CHANNELS + 1) + k] = values[i * CHANNELS + k] * model.tables.steps[quality * CHANNELS + k];
    }
    planes[i * (CHANNELS + 1) + CHANNELS] = quality / 63;
  }
  const cut = decodePlanes({ rows, columns, channels: CHANNELS + 1, data: planes }, model.layers);
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = ((y >> 2) * cut.columns + (x >> 2)) * 48 + 4 * (y & 3) + (x & 3);
      const to = 4 * (y * width + x);
      for (let n = 0; n < 3; n++) data[to + n] = (cut.data[from + 16 * n] + 0.5) * 255;
      data[to + 3] = 255;
    }
  }
  return { width, height, data };
}

/** The network: {rows, columns, channels, data} of 65 planes to those of 48 planes twice as large. */
function decodePlanes(input, layers) {
  let next = 0;
  const take = () => [layers[next++], layers[next++]];
  const residual = (x) => add(conv(rectified(conv(rectified(x), ...take())), ...take()), x);
  let x = conv(input, ...take());
  for (let i = 0; i < 3; i++) x = residual(x);
  x = enlarge(x, ...take());
  for (let i = 0; i < 3; i++) x = residual(x);
  x = conv(x, ...take());
  return add(x, enlarge(input, ...take()));
}

function rectified(x) {
  return { ...x, data: x.data.map((value) => (value > 0 ? value : 0)) };
}

function add(x, y) {
  for (let i = 0; i < x.data.length; i++) x.data[i] += y.data[i];
  return x;
}

/** A 3 x 3 convolution with a border of zeros; `weight` is (out, in, 3, 3). */
function conv(x, weight, bias) {
  const [out, channels] = weight.shape;
  const turned = (weight.turned ??= byTap(weight.values, out, channels, 9, (o, i) => o * channels + i));
  const { rows, columns } = x;
  const wide = bordered(x);
  const data = new Float32Array(rows * columns * out);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column += 2) {
      const at = (row * columns + column) * out;
      const pair = column + 1 < columns;
      data.set(bias.values, at);
      if (pair) data.set(bias.values, at + out);
      for (let tap = 0; tap < 9; tap++) {
        const from = ((row + Math.floor(tap / 3)) * (columns + 2) + column + (tap % 3)) * channels;
        if (pair) gatherTwo(data, at, out, wide, from, channels, turned[tap]);
        else gather(data, at, out, wide, from, channels, turned[tap]);
      }
    }
  }
  return { rows, columns, channels: out, data };
}

/** The planes with a border of one position of zeros. */
function bordered({ rows, columns, channels, data }) {
  const wide = new Float32Array((rows + 2) * (columns + 2) * channels);
  for (let row = 0; row < rows; row++) {
    const line = data.subarray(row * columns * channels, (row + 1) * columns * channels);
    wide.set(line, ((row + 1) * (columns + 2) + 1) * channels);
  }
  return wide;
}

/** A transposed 2 x 2 convolution with stride 2; `weight` is (in, out, 2, 2). */
function enlarge(x, weight, bias) {
  const [channels, out] = weight.shape;
  const turned = (weight.turned ??= byTap(weight.values, out, channels, 4, (o, i) => i * out + o));
  const { rows, columns } = x;
  const data = new Float32Array(4 * rows * columns * out);
  for (let row = 0; row < 2 * rows; row++) {
    for (let column = 0; column < 2 * columns; column++) {
      const at = (row * 2 * columns + column) * out;
      data.set(bias.values, at);
      const from = ((row >> 1) * columns + (column >> 1)) * channels;
      gather(data, at, out, x.data, from, channels, turned[2 * (row & 1) + (column & 1)]);
    }
  }
  return { rows: 2 * rows, columns: 2 * columns, channels: out, data };
}

/** The weights of each tap as (in, out), so that the innermost loop goes along them. */
function byTap(values, out, channels, taps, place) {
  return Array.from({ length: taps }, (_, tap) => {
    const turned = new Float32Array(channels * out);
    for (let i = 0; i < channels; i++) for (let o = 0; o < out; o++) turned[i * out + o] = values[place(o, i) * taps + tap];
    return turned;
  });
}

/** As `gather`, for two positions side by side, as each weight is then read once for both. `channels` a multiple of 4,
 * or the rest goes one by one. */
function gatherTwo(data, at, out, input, from, channels, weights) {
  const next = from + channels;
  let i = 0;
  for (; i + 4 <= channels; i += 4) {
    const a = input[from + i];
    const b = input[from + i + 1];
    const c = input[from + i + 2];
    const d = input[from + i + 3];
    const e = input[next + i];
    const f = input[next + i + 1];
    const g = input[next + i + 2];
    const h = input[next + i + 3];
    if (a === 0 && b === 0 && c === 0 && d === 0 && e === 0 && f === 0 && g === 0 && h === 0) continue;
    let w = i * out;
    for (let o = at; o < at + out; o++, w++) {
      const p = weights[w];
      const q = weights[w + out];
      const r = weights[w + 2 * out];
      const s = weights[w + 3 * out];
      data[o] += a * p + b * q + c * r + d * s;
      data[o + out] += e * p + f * q + g * r + h * s;
    }
  }
  for (; i < channels; i++) {
    for (let o = 0; o < out; o++) {
      const weight = weights[i * out + o];
      data[at + o] += input[from + i] * weight;
      data[at + out + o] += input[next + i] * weight;
    }
  }
}

/** Adds to `out` sums what some inputs weigh; four inputs at a time, as each sum is then touched a quarter as often. */
function gather(data, at, out, input, from, channels, weights) {
  let i = 0;
  for (; i + 4 <= channels; i += 4) {
    const a = input[from + i];
    const b = input[from + i + 1];
    const c = input[from + i + 2];
    const d = input[from + i + 3];
    if (a === 0 && b === 0 && c === 0 && d === 0) continue;
    let w = i * out;
    for (let o = at; o < at + out; o++, w++) {
      data[o] += a * weights[w] + b * weights[w + out] + c * weights[w + 2 * out] + d * weights[w + 3 * out];
    }
  }
  for (; i < channels; i++) {
    const value = input[from + i];
    const w = i * out - at;
    for (let o = at; o < at + out; o++) data[o] += value * weights[w + o];
  }
}
