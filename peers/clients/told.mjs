// What both npm SDKs do in the same words: list the tools, call one, print both as the last line.

export async function listAndCall(Client, Transport) {
  const [url, token, name, text] = process.argv.slice(2);
  const client = new Client({ name: 'foreign', version: '1.0.0' });
  const requestInit = { headers: { Authorization: `Bearer ${token}` } };
  await client.connect(new Transport(new URL(url), { requestInit }));
  const { tools } = await client.listTools();
  const result = await client.callTool({ name, arguments: JSON.parse(text) });
  await client.close();
  console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), text: result.content[0].text }));
}
