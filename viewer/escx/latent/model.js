// Model 1 of learned pictures: its integer tables and the weights of its decoder (spec/latent-1.md, "Tables", "Pixels").

import { EscxError } from '../errors.js';
import { gunzip } from '../prior.js';

/** The arrays of the tables, one after another, little-endian. */
const ARRAYS = [
  ['neighbours', Int16Array, 12 * 129 * 96],
  ['contextBias', Int32Array, 64 * 96],
  ['own', Int16Array, 12 * 64],
  ['middle', Int16Array, 96 * 128],
  ['middleBias', Int32Array, 128],
  ['middleHere', Int16Array, 128 * 128],
  ['outContext', Int16Array, 96 * 128],
  ['outBias', Int32Array, 64 * 128],
  ['outHere', Int16Array, 128 * 128],
  ['earlierMean', Int16Array, 64 * 64],
  ['earlierScale', Int16Array, 64 * 64],
  ['scaleIndex', Uint8Array, 512],
  ['probabilities', Uint16Array, 48 * 16 * 30],
  ['gains', Float32Array, 64 * 64],
  ['steps', Float32Array, 64 * 64],
  ['scales', Float32Array, 48],
];
const TABLE_BYTES = ARRAYS.reduce((sum, [, type, count]) => sum + type.BYTES_PER_ELEMENT * count, 0);

/** The file of the model: gzip of the length of the decoder's ONNX file (u32), the tables, and that file. */
const MOST = 4 << 20;

/** {tables, layers} in that file, a Uint8Array; `layers` are the {shape, values} of the decoder's weights in order. */
export async function unpackModel(bytes) {
  const content = await gunzip(bytes, MOST, { atMost: true });
  const decoder = content && content.length > 4 + TABLE_BYTES ? new DataView(content.buffer).getUint32(0, true) : -1;
  if (!content || content.length !== 4 + TABLE_BYTES + decoder) throw new EscxError('', 'the model of learned pictures is damaged');
  const tables = {};
  let at = 4;
  for (const [name, type, count] of ARRAYS) {
    const size = type.BYTES_PER_ELEMENT * count;
    const held = new type(content.slice(at, at + size).buffer);
    tables[name] = type === Int16Array || type === Int32Array ? Float64Array.from(held) : held; // sums need 40 bits
    at += size;
  }
  return { tables, layers: readWeights(content.subarray(at)) };
}

/** The weights in an ONNX file, in half precision: ModelProto.graph (7) . initializer (5) . dims (1), raw_data (9). */
function readWeights(bytes) {
  const layers = [];
  for (const [field, graph] of fields(bytes)) {
    if (field !== 7) continue;
    for (const [inner, tensor] of fields(graph)) {
      if (inner !== 5) continue;
      const shape = [];
      let values = null;
      for (const [part, value] of fields(tensor)) {
        if (part === 1) shape.push(...(typeof value === 'number' ? [value] : packed(value)));
        if (part === 9) values = halves(value);
      }
      layers.push({ shape, values });
    }
  }
  return layers;
}

/** [number, value] of the fields of a protobuf message: a number, or the bytes of what has a length. */
function* fields(bytes) {
  const place = { at: 0 };
  while (place.at < bytes.length) {
    const tag = varint(bytes, place);
    const wire = tag & 7;
    if (wire === 0) {
      yield [tag >> 3, varint(bytes, place)];
    } else if (wire === 2) {
      const length = varint(bytes, place);
      yield [tag >> 3, bytes.subarray(place.at, place.at + length)];
      place.at += length;
    } else {
      place.at += wire === 5 ? 4 : 8;
    }
  }
}

function packed(bytes) {
  const place = { at: 0 };
  const out = [];
  while (place.at < bytes.length) out.push(varint(bytes, place));
  return out;
}

function varint(bytes, place) {
  let value = 0;
  for (let shift = 1; ; shift *= 128) {
    const byte = bytes[place.at++];
    value += (byte & 127) * shift;
    if (!(byte & 128)) return value;
  }
}

/** Numbers in half precision as Float32Array: the bits of each are moved into those of a single-precision number. */
function halves(bytes) {
  const halfBits = new Uint16Array(bytes.slice().buffer);
  const values = new Float32Array(halfBits.length);
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < halfBits.length; i++) {
    const half = halfBits[i];
    const size = half & 0x7fff;
    if (size >= 0x400) bits[i] = ((half & 0x8000) << 16) | ((size << 13) + 0x38000000);
    else values[i] = (half & 0x8000 ? -1 : 1) * size * 2 ** -24; // below the least normal number
  }
  return values;
}
