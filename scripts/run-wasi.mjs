// Runs a WASI program in Node, whose engine is V8, like Envoy's: `node scripts/run-wasi.mjs PROGRAM [ARGUMENT ...]`. It
// is a runner for cargo; the program sees the environment and the working directory. Call node with `--single-threaded`:
// Node 20 and 22 were seen to crash at the end of such programs when V8 compiles on other threads.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [program, ...args] = process.argv.slice(2);
const wasi = new WASI({
  version: "preview1",
  args: [program, ...args],
  env: process.env,
  preopens: { ".": process.cwd() },
});
const { instance } = await WebAssembly.instantiate(await readFile(program), wasi.getImportObject());
process.exitCode = wasi.start(instance);
