// The official conformance suite against ThinkWork as an MCP client: one line per scenario and revision, and 1 where
// one fails. `cargo xtask conformance client` runs it.
//
//     node run.mjs BINARY

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HERE, run } from '../programs.mjs';

const SUITE = join(HERE, 'node_modules/@modelcontextprotocol/conformance');
const CLIENT = join(dirname(fileURLToPath(import.meta.url)), 'client.mjs');
const REVISIONS = ['2025-11-25', '2026-07-28'];
const PASSWORD = 'correct horse battery staple';
// What a revision requires and is not run here, and why.
const LEFT_OUT = [
  [/^auth\//, 'needs a person in a browser; the tests of OAuth drive one'],
  [/^elicitation-/, 'a server that asks for input is refused'],
  [/^sep-2322-/, 'a request in several rounds asks for input, too'],
];

// The scenarios that the suite requires of a client of this revision.
async function required(revision) {
  const text = await readFile(join(SUITE, 'requirements', `${revision}.yaml`), 'utf8');
  const [, list] = text.match(/^client:\n((?:\s*(?:#.*|- .*)?\n)*)/m);
  return [...list.matchAll(/^\s*- (\S+)/gm)].map(([, name]) => name);
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

// A ThinkWork of its own: what a driver needs to reach it, and how it ends.
async function thinkwork(binary) {
  const folder = await mkdtemp(join(tmpdir(), 'thinkwork-conformance-'));
  const url = `http://127.0.0.1:${await freePort()}`;
  const env = {
    ...process.env,
    THINKWORK_LISTEN: new URL(url).host,
    THINKWORK_PUBLIC_URL: url,
    THINKWORK_DATA_DIR: join(folder, 'data'),
    THINKWORK_OUTBOUND__ALLOW_LOOPBACK: 'true',
    THINKWORK_LOG: 'warn',
  };
  const setup = spawn(binary, ['setup', '--tenant', 'acme', '--owner-email', 'op@acme.test', '--owner-password-stdin', '--json'], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  let said = '';
  setup.stdout.on('data', (text) => { said += text; });
  setup.stdin.end(PASSWORD);
  const [code] = await once(setup, 'close');
  assert.equal(code, 0, 'thinkwork setup');
  const server = spawn(binary, ['serve'], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  const json = { 'content-type': 'application/json' };
  const signIn = async () => {
    const body = JSON.stringify({ email: 'op@acme.test', password: PASSWORD });
    return fetch(`${url}/v1/sessions`, { method: 'POST', headers: json, body }).catch(() => undefined);
  };
  let session = await signIn();
  while (session === undefined && server.exitCode === null) session = await signIn();
  assert.equal(session?.status, 201, 'signed in');
  const headers = {
    ...json,
    cookie: session.headers.getSetCookie().map((cookie) => cookie.split(';')[0]).join('; '),
    'x-csrf-token': (await session.json()).csrf_token,
  };
  const wanted = { name: 'Conformance', kind: 'personal', audience: 'mcp', scopes: ['write'], expires_in_seconds: 3600 };
  const token = await fetch(`${url}/v1/tokens`, { method: 'POST', headers, body: JSON.stringify(wanted) });
  assert.equal(token.status, 201, 'token');
  return {
    env: {
      THINKWORK_URL: url,
      THINKWORK_TOKEN: JSON.parse(said).token,
      THINKWORK_MCP_TOKEN: (await token.json()).token,
    },
    stop: async () => {
      server.kill();
      if (server.exitCode === null) await once(server, 'close');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const started = await thinkwork(process.argv[2]);
let failed = 0;
try {
  for (const revision of REVISIONS) {
    for (const scenario of await required(revision)) {
      const leftOut = LEFT_OUT.find(([pattern]) => pattern.test(scenario));
      if (leftOut) {
        if (!scenario.startsWith('auth/')) console.log(`${revision} ${scenario}: not run, ${leftOut[1]}`);
        continue;
      }
      const command = `"${process.execPath}" "${CLIENT}"`;
      const options = ['client', '--command', command, '--scenario', scenario, '--spec-version', revision];
      const { code, out, err } = await run(join(SUITE, 'dist/index.js'), options, started.env);
      const [count] = out.match(/Passed: \S+/) ?? (err.match(/Passed: \S+/) ?? ['']);
      console.log(`${revision} ${scenario}: ${code === 0 ? 'ok' : 'FAILED'} ${count}`);
      if (code !== 0) {
        failed += 1;
        console.log(out, err);
      }
    }
  }
} finally {
  await started.stop();
}
process.exitCode = failed === 0 ? 0 : 1;
