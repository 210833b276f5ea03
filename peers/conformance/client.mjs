// What the suite runs as "the client": has ThinkWork use the MCP server at the given URL as an operator and a person
// would. It registers and approves the server, approves its tools, and calls each of them through the gateway.
//
//     node client.mjs URL      with THINKWORK_URL, THINKWORK_TOKEN (admin), THINKWORK_MCP_TOKEN
//
// The suite gives arguments for some tools in MCP_CONFORMANCE_CONTEXT; others get a value for what they require.

const { THINKWORK_URL, THINKWORK_TOKEN, THINKWORK_MCP_TOKEN } = process.env;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const SAMPLES = { number: 3, integer: 3, string: 'text', boolean: true, array: [], object: {} };

async function api(method, path, body) {
  const answer = await fetch(THINKWORK_URL + path, {
    method,
    headers: { authorization: `Bearer ${THINKWORK_TOKEN}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

async function gateway(method, params) {
  const answer = await fetch(`${THINKWORK_URL}/mcp`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${THINKWORK_MCP_TOKEN}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const text = await answer.text();
  console.log(method, JSON.stringify(params), answer.status, text);
  return JSON.parse(text).result;
}

const name = `conformance${process.pid}`;
const registered = { name, url: process.argv.at(-1), auth: { mode: 'none' }, outside_spaces: true };
const { id, definition_hash } = await api('POST', '/v1/mcp-servers', registered);
await api('POST', `/v1/mcp-servers/${id}/approve`, { definition_hash });
const refreshed = await api('POST', `/v1/mcp-servers/${id}/tools/refresh`);
console.log('refresh', JSON.stringify(refreshed));
const { tools: reviewed } = await api('GET', `/v1/mcp-servers/${id}`);
const decisions = reviewed.map((tool) => [
  tool.name,
  { definition_hash: tool.definition_hash, effect: 'read', idempotent: true },
]);
await api('POST', `/v1/mcp-servers/${id}/approve`, { definition_hash, tools: Object.fromEntries(decisions) });

const { tools } = await gateway('tools/list', {});
for (const tool of tools.filter((tool) => tool.name.startsWith(`${name}__`))) {
  const { properties = {}, required = [] } = tool.inputSchema;
  const sample = Object.fromEntries(required.map((key) => [key, SAMPLES[properties[key]?.type] ?? 'text']));
  const given = context.toolCalls?.find((call) => tool.name === `${name}__${call.name}`)?.arguments;
  await gateway('tools/call', { name: tool.name, arguments: given ?? sample });
}
await api('DELETE', `/v1/mcp-servers/${id}`);
