// Checks a built filter: node scripts/check-module.mjs toolgate.wasm
// A host function that Envoy lacks shows only when Envoy refuses the module, so the imports are held against a list.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

// V8 compiles the module once per worker when Envoy starts: its size is start-up time.
const MAX_BYTES = 2.3 * 1024 * 1024;

// What Envoy's Wasm host implements of WASI for a module without files; `env` is the proxy-wasm interface.
const WASI = new Set([
  "args_get",
  "args_sizes_get",
  "clock_time_get",
  "environ_get",
  "environ_sizes_get",
  "fd_write",
  "proc_exit",
  "random_get",
]);

const isAllowed = ({ module, name }) =>
  (module === "env" && name.startsWith("proxy_")) || (module === "wasi_snapshot_preview1" && WASI.has(name));

const path = process.argv[2];
const bytes = readFileSync(path);
const imports = WebAssembly.Module.imports(new WebAssembly.Module(bytes));
const refused = imports.filter((each) => !isAllowed(each)).map(({ module, name }) => `${module}.${name}`);

const kibibytes = (buffer) => `${Math.ceil(buffer.length / 1024)} KiB`;
console.log(`${path}: ${kibibytes(bytes)}, ${kibibytes(gzipSync(bytes))} compressed, ${imports.length} imports`);

if (refused.length > 0) console.error(`error: imports that Envoy may not have: ${refused.join(", ")}`);
if (bytes.length > MAX_BYTES) console.error(`error: larger than MAX_BYTES, ${MAX_BYTES} (scripts/check-module.mjs)`);
process.exitCode = refused.length > 0 || bytes.length > MAX_BYTES ? 1 : 0;
