// What benchmarks/viewer.py measures in node.
//
//     node benchmarks/viewer.mjs speed FILE    seconds for all maps of coding 2, one for each line that is read
//     node benchmarks/viewer.mjs first FILE    reads and bytes until table and hints of the first block are there

import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import process from 'node:process';
import { createInterface } from 'node:readline';

import { decodeMap } from '../viewer/escx/coding/codings.js';
import { EscxFile } from '../viewer/escx/file.js';
import { unpackPrior } from '../viewer/escx/prior.js';
import { BytesSource } from '../viewer/escx/source.js';

const [what, path] = process.argv.slice(2);

/** A file that is read as one over a network is: only what is needed. */
class FarSource {
  constructor(name) {
    this.file = openSync(name);
    this.size = fstatSync(this.file).size;
    this.whole = false;
    this.reads = [];
  }

  async read(offset, length) {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, this.size - offset)));
    readSync(this.file, bytes, 0, bytes.length, offset);
    this.reads.push(bytes.length);
    return bytes;
  }
}

if (what === 'first') {
  const source = new FarSource(path);
  const file = await EscxFile.open(source);
  const block = await file.block(0);
  closeSync(source.file);
  const { reads, size } = source;
  console.log(JSON.stringify({ size, exemplars: file.index.total, reads: reads.length, bytes: reads.reduce((a, b) => a + b), shown: block.length }));
} else {
  const tables = await unpackPrior(new Uint8Array(readFileSync(new URL('../spec/prior-1.bin.gz', import.meta.url))));
  const file = await EscxFile.open(new BytesSource(new Uint8Array(readFileSync(path))));
  const work = [];
  for (let number = 0; number < file.index.offsets.length; number++) {
    const block = await file.block(number);
    const payloads = await file.payloads(number, [...Array(block.length).keys()]);
    payloads.forEach((bytes, i) => block.coding[i] === 2 && work.push([2, bytes, ...block.mapSizeOf(i), tables]));
  }
  console.log(JSON.stringify({ maps: work.length, pixels: work.reduce((sum, item) => sum + item[2] * item[3], 0) }));
  for await (const _ of createInterface({ input: process.stdin })) {
    const from = performance.now();
    for (const item of work) decodeMap(...item);
    console.log((performance.now() - from) / 1000);
  }
}
