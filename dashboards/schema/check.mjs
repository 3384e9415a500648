// Every dashboard against Grafana's published types: node check.mjs FOLDER, from a folder with the packages of package.json.
//
// A dashboard becomes a TypeScript file of which it is the only value, line for line, and the compiler judges it. Before that is believed,
// copies with one mistake each must be refused, so that a type that has come to mean anything at all does not pass for a good dashboard.

import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const folder = process.argv[2];
const here = dirname(fileURLToPath(import.meta.url));
const work = join(process.cwd(), 'checked');
const HEAD = "import type { Checked } from './types'; export const dashboard: Checked = ";

/** A mistake, and what it is made of. */
const MISTAKES = [
  ['"colorMode": "value"', '"colorMode": "valeu"'],
  ['"lineWidth"', '"lineWidht"'],
  ['"unit"', '"unti"'],
  ['"gridPos"', '"gridpos"'],
  ['"expr"', '"exrp"'],
  ['"hide": 0', '"hide": 7'],
  ['"titleFormat"', '"titelFormat"'],
  ['"type": "timeseries"', '"type": "timeserie"'],
  ['"placement": "bottom"', '"placement": "left"'],
  ['"schemaVersion": 39', '"schemaVersion": "39"'],
];

function write(name, text) {
  const path = join(work, `${name}.ts`);
  writeFileSync(path, HEAD + text);
  return path;
}

rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
copyFileSync(join(here, 'types.ts'), join(work, 'types.ts'));
const files = readdirSync(folder).filter((name) => name.endsWith('.json')).sort();
const texts = files.map((name) => readFileSync(join(folder, name), 'utf8'));
const dashboards = files.map((name, i) => write(basename(name, '.json'), texts[i]));
const wrong = MISTAKES.map(([right, mistake], i) => {
  const text = texts.find((text) => text.includes(right));
  if (text === undefined) throw new Error(`no dashboard has ${right}: find another mistake`);
  return write(`mistake-${i}`, text.replace(right, mistake));
});
const program = ts.createProgram([...dashboards, ...wrong], {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  types: [],
});

const found = new Map();
const elsewhere = [];
for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
  const words = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n').split('\n').slice(-2).map((line) => line.trim()).join(' ');
  const name = diagnostic.file && basename(diagnostic.file.fileName, '.ts');
  if (!diagnostic.file || dirname(diagnostic.file.fileName) !== work || name === 'types') {
    elsewhere.push(`${diagnostic.file?.fileName ?? ''}: ${words}`);
    continue;
  }
  const line = diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start).line + 1;
  found.set(name, [...(found.get(name) ?? []), `${name}.json:${line}: ${words}`]);
}
const missed = MISTAKES.filter((_, i) => !found.has(`mistake-${i}`)).map(([, mistake]) => `nobody minds ${mistake}: the types say nothing`);
const bad = files.flatMap((name) => found.get(basename(name, '.json')) ?? []);
const all = [...elsewhere, ...missed, ...bad];
all.forEach((line) => console.error(line));
console.log(`${files.length} dashboards, ${bad.length} wrong places, ${MISTAKES.length - missed.length} of ${MISTAKES.length} mistakes noticed`);
process.exit(all.length > 0 || files.length === 0 ? 1 : 0);
