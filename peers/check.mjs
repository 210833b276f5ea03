// Do the peers themselves work, without ThinkWork? Each is started and used once, as the tests will.
// One line per finding; exits 1 at the first that does not hold. `cargo xtask test --only peers` runs it.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { accessibility, consent, drive, person } from './browser/browser.mjs';
import { HERE, inspect, peer, run } from './programs.mjs';

const running = [];
const start = async (...args) => {
  const started = await peer(...args);
  running.push(started);
  return started;
};
// A listener on a port the system picks: { url, close }.
async function listen(answering) {
  const server = createServer(answering);
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  running.push({ stop: () => server.close() });
  return `http://127.0.0.1:${server.address().port}/`;
}
const say = (text) => console.log(`peers: ${text}`);

// An application/x-www-form-urlencoded POST, as RFC 6749 asks; resolves to the status and the JSON.
async function form(url, fields) {
  const answer = await fetch(url, { method: 'POST', body: new URLSearchParams(fields) });
  const text = await answer.text();
  return { status: answer.status, ...(text ? JSON.parse(text) : {}) };
}

// One member's consent in a browser, from the authorization request to the code that came back.
async function authorize(browser, { server, client, resource, name, returnAddress }) {
  const verifier = randomBytes(32).toString('base64url');
  const request = new URL(server.authorization_endpoint);
  request.search = new URLSearchParams({
    client_id: client.client_id,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    redirect_uri: returnAddress,
    resource,
    response_type: 'code',
    scope: 'notes:read',
    state: 'abc',
  });
  const page = await person(browser);
  await page.goto(request.href);
  assert.ok(Array.isArray(await accessibility(page)), 'axe answers');
  await consent(page, { name });
  const { searchParams: back } = new URL(page.url());
  await page.context().close();
  assert.equal(back.get('iss'), server.issuer, 'RFC 9207');
  assert.equal(back.get('state'), 'abc');
  return { code: back.get('code'), verifier };
}

async function oauthAndNotes(browser) {
  const issuer = await start('oidc.mjs');
  const notes = await start('notes_server.py', { ISSUER: issuer.url });

  const refused = await fetch(notes.url, { method: 'POST' });
  assert.equal(refused.status, 401);
  const [, metadataUrl] = /resource_metadata="([^"]+)"/.exec(refused.headers.get('www-authenticate'));
  const protectedResource = await (await fetch(metadataUrl)).json();
  const resource = protectedResource.resource;
  assert.equal(resource, notes.url, 'RFC 9728');
  say('notes server: 401 with its metadata');

  const server = await (await fetch(`${issuer.url}/.well-known/oauth-authorization-server`)).json();
  const returnAddress = await listen((_, answer) => answer.end('back'));
  const client = await (await fetch(server.registration_endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ redirect_uris: [returnAddress], token_endpoint_auth_method: 'none' }),
  })).json();
  assert.ok(client.client_id, 'RFC 7591');

  const { code, verifier } = await authorize(browser, { server, client, resource, name: 'ada', returnAddress });
  const common = { client_id: client.client_id, resource };
  const first = await form(server.token_endpoint, {
    ...common, grant_type: 'authorization_code', code, code_verifier: verifier, redirect_uri: returnAddress,
  });
  assert.equal(first.status, 200, JSON.stringify(first));
  say('oidc-provider: registration, PKCE, consent in Chromium, iss, code exchange');

  const found = await inspect(notes.url, first.access_token, '--method', 'tools/call', '--tool-name', 'search', '--tool-arg', 'query=invoice');
  assert.deepEqual(found.structuredContent, { subject: 'ada', notes: ['Invoice 1001: 240 EUR, paid'] });
  const { tools } = await inspect(notes.url, first.access_token, '--protocol-era', 'modern', '--method', 'tools/list');
  assert.deepEqual(tools.map((tool) => tool.name).sort(), ['add', 'search']);
  await assert.rejects(inspect(notes.url, 'not-a-token', '--method', 'tools/list'));
  say('notes server: answers ada with her own token, in both protocol eras, and nobody without one');

  const refresh = { ...common, grant_type: 'refresh_token' };
  const second = await form(server.token_endpoint, { ...refresh, refresh_token: first.refresh_token });
  assert.equal(second.status, 200);
  assert.notEqual(second.refresh_token, first.refresh_token, 'rotation');
  const revoked = await form(server.revocation_endpoint, { client_id: client.client_id, token: second.refresh_token, token_type_hint: 'refresh_token' });
  assert.equal(revoked.status, 200);
  const third = await form(server.token_endpoint, { ...refresh, refresh_token: second.refresh_token });
  assert.equal(third.error, 'invalid_grant');
  assert.ok(issuer.events.some(({ event, sub }) => event === 'grant.revoked' || (event === 'refresh_token.destroyed' && sub === 'ada')));
  say('oidc-provider: rotates refresh tokens, revokes, and says so');
}

async function everything() {
  const { url } = await start('everything.mjs');
  const { tools } = await inspect(url, null, '--method', 'tools/list');
  assert.ok(tools.some((tool) => tool.name === 'echo'));
  const { content } = await inspect(url, null, '--method', 'tools/call', '--tool-name', 'echo', '--tool-arg', 'message=hello');
  assert.match(content[0].text, /hello/);
  say(`server-everything: ${tools.length} tools through the inspector`);
}

async function model() {
  const { url } = await start('model.py');
  const ask = async (messages) => (await (await fetch(`${url}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'any', messages, tools: [{ type: 'function', function: { name: 'notes__search', parameters: {} } }] }),
  })).json()).choices[0];
  const question = { role: 'user', content: 'Please find my invoice.' };
  const asked = await ask([question]);
  assert.equal(asked.finish_reason, 'tool_calls');
  const [call] = asked.message.tool_calls;
  assert.equal(call.function.name, 'notes__search');
  const answered = await ask([question, asked.message, { role: 'tool', tool_call_id: call.id, content: 'Invoice 1001' }]);
  assert.equal(answered.message.content, 'I found your invoice.');
  say('fakellm: asks for a tool, then answers');
}

async function sender() {
  const secret = `whsec_${randomBytes(24).toString('base64')}`;
  const url = await listen(async (request, answer) => {
    const body = (await request.toArray()).join('');
    try {
      new Webhook(secret).verify(body, request.headers);
      answer.writeHead(202).end();
    } catch {
      answer.writeHead(401).end();
    }
  });
  const send = async (env) => JSON.parse((await run(join(HERE, 'sender.mjs'), [url, secret, '{"a":1}'], env)).out).status;
  assert.equal(await send(), 202);
  assert.equal(await send({ TAMPER: 'yes' }), 401);
  assert.equal(await send({ TIMESTAMP: '1' }), 401);
  say('standardwebhooks: signs; a changed body and an old time are seen');
}

try {
  await drive(oauthAndNotes);
  if (!process.exitCode) for (const one of [everything, model, sender]) await one();
} finally {
  for (const one of running) one.stop();
}
