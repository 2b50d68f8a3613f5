// The npm package `oidc-provider` as an authorization server: client credentials, resource indicators, and access
// tokens as JWTs, signed with the algorithm that the client is named after. Prints its port when it listens.
//
//   node provider.mjs <directory of node_modules> <resource> <scopes>

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, resource, scopes] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(join(modules, 'oidc-provider/lib/index.js')));

const key = (alg, type, options) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-1`,
});
const keys = [
  key('RS256', 'rsa', { modulusLength: 2048 }),
  key('ES256', 'ec', { namedCurve: 'P-256' }),
  key('EdDSA', 'ed25519'),
];

const server = createServer((request, response) => provider.callback()(request, response));
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  jwks: { keys },
  scopes: scopes.split(' '),
  clients: keys.map(({ alg }) => ({
    client_id: alg,
    client_secret: `secret of ${alg}`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  })),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      // Any resource is known here, so that a test can have a token for another one.
      getResourceServerInfo: (_, audience, client) => ({
        audience,
        scope: scopes,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: client.clientId } },
      }),
    },
  },
});

console.log(JSON.stringify({ issuer, port: server.address().port }));
