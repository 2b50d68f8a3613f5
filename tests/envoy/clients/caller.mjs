// An official TypeScript client that calls one gated tool until it has a result, as an application around it would:
// it follows the links that it is shown, where a person approves, and comes again after its own timeout.
//
//   node caller.mjs <directory of node_modules> <settings as JSON>
//
// Prints what happened as one line of JSON.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, text] = process.argv.slice(2);
const settings = JSON.parse(text);
const load = (path) => import(pathToFileURL(join(modules, '@modelcontextprotocol', path)));

const isModern = settings.package === 'client';
const { Client } = await load(isModern ? 'client/dist/index.mjs' : 'sdk/dist/esm/client/index.js');
const { StreamableHTTPClientTransport } = await load(
  isModern ? 'client/dist/index.mjs' : 'sdk/dist/esm/client/streamableHttp.js',
);

const happened = [];
const approve = async (url) => {
  happened.push('link');
  const answer = await fetch(url, { method: 'POST' });
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
};

const client = new Client(
  { name: 'test', version: '1' },
  {
    capabilities: settings.elicits ? { elicitation: { form: {}, url: {} } } : {},
    ...(isModern && { versionNegotiation: { mode: settings.mode } }),
  },
);
if (settings.elicits) {
  const handler = async (request) => {
    await approve(request.params.url);
    return { action: 'accept' };
  };
  const kind = 'elicitation/create';
  if (isModern) {
    client.setRequestHandler(kind, handler);
  } else {
    const { ElicitRequestSchema } = await load('sdk/dist/esm/types.js');
    client.setRequestHandler(ElicitRequestSchema, handler);
  }
}

const headers = { Authorization: `Bearer ${settings.token}` };
await client.connect(new StreamableHTTPClientTransport(new URL(settings.url), { requestInit: { headers } }));

const call = (params) => {
  const options = { timeout: settings.timeout };
  return isModern ? client.callTool(params, options) : client.callTool(params, undefined, options);
};

const deadline = Date.now() + 30_000;
for (;;) {
  if (Date.now() > deadline) throw new Error(`no result: ${happened}`);
  try {
    const result = await call({ name: settings.tool, arguments: settings.arguments });
    if (!result.isError) {
      happened.push('result');
      break;
    }
    if (/was used/.test(result.content[0].text)) {
      happened.push('used');
      break;
    }
    happened.push('told');
    const link = result.content[0].text.match(/https?:\/\/\S+?(?=[.,;)]?(\s|$))/);
    if (!link) throw new Error(result.content[0].text);
    await approve(link[0]);
  } catch (error) {
    if (error.code === -32042) {
      happened.push('elicitation required');
      for (const elicitation of error.elicitations ?? error.data.elicitations) await approve(elicitation.url);
    } else if (error.code === -32001 || error.code === 'REQUEST_TIMEOUT') {
      happened.push('timeout');
      await new Promise((over) => setTimeout(over, 100));
    } else {
      throw error;
    }
  }
}
await client.close();
console.log(JSON.stringify({ happened }));
process.exit(0);
