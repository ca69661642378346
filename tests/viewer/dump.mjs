// What the viewer's reader makes of files and of coded maps, as JSON on standard output.
//
//     node dump.mjs files PRIOR.gz FILE...     by file: what it decodes to, or {error, rule}
//     node dump.mjs maps PRIOR.gz MAPS.json    [[coding, height, width, base64], ...]: rows of '.' and '#', or the rule
//     node dump.mjs speed PRIOR.gz FILE        megapixels a second of the maps of a file, the best of five rounds

import { readFileSync } from 'node:fs';
import process from 'node:process';

import { decodeMap } from '../../viewer/escx/coding/codings.js';
import { EscxError } from '../../viewer/escx/errors.js';
import { EscxFile } from '../../viewer/escx/file.js';
import { unpackPrior } from '../../viewer/escx/prior.js';
import { BytesSource } from '../../viewer/escx/source.js';
import { verify } from '../../viewer/escx/verify.js';

const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const sourceOf = (path) => new BytesSource(new Uint8Array(readFileSync(path)));

function lines(map) {
  return Array.from({ length: map.height }, (_, y) =>
    Array.from({ length: map.width }, (_, x) => '.#'[map.at(y, x)]).join(''),
  );
}

async function dump(path, tables) {
  const file = await EscxFile.open(sourceOf(path));
  const exemplars = [];
  for (let number = 0; number < file.index.offsets.length; number++) {
    const block = await file.block(number);
    const payloads = await file.payloads(number, [...Array(block.length).keys()]);
    for (let i = 0; i < block.length; i++) {
      const row = block.row(i);
      const out = { kind: row.kind, class: row.class, name: row.name, size: row.size, prompt: row.prompt };
      Object.assign(out, { seeds: block.seedsOf(i), recipe: file.recipes[row.recipe], payload: base64(payloads[i]) });
      if (row.kind === 'prompt') {
        const hint = block.hintOf(i);
        Object.assign(out, { coding: row.coding, map_size: row.mapSize, made: row.made, hint: hint && base64(hint) });
        Object.assign(out, { hint_codec: row.hintCodec });
        try {
          out.edges = lines(block.mapOf(i, payloads[i], tables));
        } catch (error) {
          if (!(error instanceof EscxError)) throw error;
          out.edges = { error: error.message, rule: error.rule };
        }
      }
      exemplars.push(out);
    }
  }
  return { source: file.head.source, minor: file.minor, exemplars };
}

async function refused(make) {
  try {
    return await make();
  } catch (error) {
    if (!(error instanceof EscxError)) throw error;
    return { error: error.message, rule: error.rule, unfinished: error.unfinished };
  }
}

const [what, prior, ...paths] = process.argv.slice(2);
const tables = await unpackPrior(new Uint8Array(readFileSync(prior)));
const answer = {};
if (what === 'files') {
  for (const path of paths) {
    answer[path] = await refused(() => dump(path, tables));
    answer[path].verdict = await refused(() => verify(sourceOf(path), { tables }));
  }
} else if (what === 'maps') {
  answer.maps = [];
  for (const [coding, height, width, bytes] of JSON.parse(readFileSync(paths[0], 'utf8'))) {
    const data = new Uint8Array(Buffer.from(bytes, 'base64'));
    answer.maps.push(await refused(() => lines(decodeMap(coding, data, height, width, tables))));
  }
} else {
  const file = await EscxFile.open(sourceOf(paths[0]));
  const work = [];
  for (let number = 0; number < file.index.offsets.length; number++) {
    const block = await file.block(number);
    const payloads = await file.payloads(number, [...Array(block.length).keys()]);
    payloads.forEach((bytes, i) => block.coding[i] === 2 && work.push([2, bytes, ...block.mapSizeOf(i), tables]));
  }
  let best = 0;
  for (let round = 0; round < 5; round++) {
    const from = performance.now();
    let pixels = 0;
    for (const item of work) {
      decodeMap(...item);
      pixels += item[2] * item[3];
    }
    best = Math.max(best, pixels / (performance.now() - from) / 1000);
  }
  answer.megapixels = best;
  answer.maps = work.length;
}
process.stdout.write(JSON.stringify(answer));
