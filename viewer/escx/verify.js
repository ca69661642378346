// Every byte of a file, checked.

import { Block } from './block.js';
import { u64 } from './bytes.js';
import { EscxError, need, refuse } from './errors.js';
import { EscxFile } from './file.js';
import { readHead, readRecipe } from './facts.js';
import { rebuildHint } from './hint.js';
import { readLatents, readPictureHead } from './latent/latents.js';
import { FRAME, KNOWN, PREAMBLE, checkType, chunkHead, chunkPayload } from './layout.js';

/** The minor version that this reader knows all of. */
const MINOR = 0;

/**
 * Checks all of a file: each chunk, their order, the index against the blocks, every map and hint.
 *
 * `tables`: the prior. `model()`: a promise of the model of learned pictures, asked for at the first of them.
 * `checkHint(hint)`: decodes a rebuilt hint, or nothing is decoded. `onProgress(done)`: bytes so far. Returns
 * {exemplars, blocks, later}; `later` is a minor version of which not all could be checked, or 0. Throws an EscxError
 * at the first fault.
 */
export async function verify(source, { tables, model, checkHint = null, onProgress = () => {} }) {
  const file = await EscxFile.open(source);
  const keys = new Set();
  const found = { recipes: [], blocks: [], classes: new Set(), seeds: [] };
  let before = null;
  for (let at = PREAMBLE; at < source.size; ) {
    const head = chunkHead(await source.read(at, 8), at);
    need(head.end <= source.size, 'M4', `the file ends inside a chunk (at byte ${at})`);
    checkType(head);
    const payload = chunkPayload(await source.read(at, head.length + FRAME), at, head.type, head.length);
    checkOrder(head, payload, before);
    if (head.type === 'HEAD') readHead(payload);
    if (head.type === 'RECP') readRecipe(payload, found.recipes.push(at) - 1);
    if (head.type === 'BLCK') {
      const block = new Block(payload, head.length, file.recipes.length);
      found.blocks.push(at);
      for (const name of block.classes) found.classes.add(name);
      found.seeds.push(...block.seedRuns);
      await checkRows(block, payload, { tables, model, checkHint, keys, at });
      const number = found.blocks.length - 1;
      if (file.index.offsets[number] === at) {
        need(file.index.lengths[number] === head.length, 'M23', `the index gives the block at byte ${at} another length`);
        file.index.checkBlock(number, block);
      }
    }
    if (KNOWN.includes(head.type)) before = head;
    else before = null;
    at = head.end;
    onProgress(at);
  }
  const { index } = file;
  const same =
    String(found.recipes) === String([...index.recipes]) &&
    String(found.blocks) === String([...index.offsets]) &&
    String([...found.classes]) === String(index.classes) &&
    String(joined(found.seeds)) === String([...index.seeds]);
  need(same, 'M50', 'the index does not say what the chunks hold');
  return { exemplars: index.total, blocks: index.offsets.length, later: file.minor > MINOR ? file.minor : 0 };
}

function checkOrder(head, payload, before) {
  const { type, offset } = head;
  need((type === 'HEAD') === (offset === PREAMBLE), 'M8', `a head is missing, or not the first chunk (at byte ${offset})`);
  need((type === 'TAIL') === (before?.type === 'INDX'), 'M9', `an index and a trailer do not follow each other (at byte ${offset})`);
  if (type !== 'TAIL') return;
  const names = head.length === 16 && u64(payload, 0) === before.offset && u64(payload, 8) === head.end;
  need(names, 'M9', `a trailer does not name its index (at byte ${offset})`);
}

async function checkRows(block, payload, { tables, model, checkHint, keys, at }) {
  for (let i = 0; i < block.length; i++) {
    const key = block.keyOf(i);
    try {
      if (block.nameOf(i)) {
        need(!keys.has(key), 'M50', 'occurs twice');
        keys.add(key);
      }
      const bytes = payload.subarray(block.payloadAt[i], block.payloadAt[i + 1]);
      if (block.kind[i] === 2) await checkLatents(bytes, model);
      if (block.kind[i] !== 0) continue;
      block.mapOf(i, bytes, tables);
      const hint = block.hintOf(i);
      if (!hint) continue;
      if (block.hintCodec[i] === 1) {
        await checkLatents(hint, model);
        continue;
      }
      if (block.hintCodec[i]) refuse('M38', `a hint under codec ${block.hintCodec[i]}, which this viewer does not know`);
      const rebuilt = rebuildHint(hint);
      if (checkHint) await checkHint(rebuilt);
    } catch (error) {
      if (!(error instanceof EscxError)) throw error;
      throw new EscxError(error.rule, `${key}: ${error.message} (in the block at byte ${at})`, { offset: at });
    }
  }
}

async function checkLatents(bytes, model) {
  readPictureHead(bytes); // before the model is asked for
  readLatents(bytes, (await model()).tables);
}

/** Many runs of seeds as the runs of all of them. */
function joined(all) {
  const pairs = [];
  for (const runs of all) for (let i = 0; i < runs.length; i += 2) pairs.push([runs[i], runs[i + 1]]);
  pairs.sort((one, other) => one[0] - other[0]);
  const out = [];
  for (const [first, last] of pairs) {
    if (out.length && first <= out.at(-1) + 1) out[out.length - 1] = Math.max(out.at(-1), last);
    else out.push(first, last);
  }
  return out;
}
