// Runs a WASI program in Node, whose engine is V8, like Envoy's: `node scripts/run-wasi.mjs PROGRAM [ARGUMENT ...]`, for cargo as a
// runner. The program sees the environment and the working directory. `--single-threaded` before the script: Node 20 and
// 22 crash at the end of programs whose code V8 has compiled on other threads.
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
