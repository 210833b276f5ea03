// Starting one another: what `check.mjs` and the drives under `browser/` share.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const HERE = dirname(fileURLToPath(import.meta.url));
const PYTHON = process.env.THINKWORK_TEST_PYTHON ?? join(HERE, '..', 'venv', 'bin', 'python');
const INSPECTOR = join(HERE, 'node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js');

// Starts `script` and resolves once it printed `READY <url>`: { url, events, stop }.
export async function peer(script, env = {}) {
  const child = spawn(script.endsWith('.py') ? PYTHON : process.execPath, [join(HERE, script)], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let complaints = '';
  child.stderr.on('data', (text) => { complaints += text; });
  const events = [];
  const url = await new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`${script} ended with ${code}: ${complaints}`)));
    child.once('error', reject);
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith('READY ')) resolve(line.slice('READY '.length));
      if (line.startsWith('EVENT ')) events.push(JSON.parse(line.slice('EVENT '.length)));
    });
  });
  return { url, events, stop: () => child.kill() };
}

// Runs a program of this folder to its end: { code, out, err }.
export async function run(script, args, env = {}) {
  const child = spawn(process.execPath, [script, ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { out: '', err: '' };
  child.stdout.on('data', (text) => { said.out += text; });
  child.stderr.on('data', (text) => { said.err += text; });
  const [code] = await once(child, 'close');
  return { code, ...said };
}

// The MCP inspector's command line as a foreign client: the answer, or an error with what it said. It keeps what
// it learns in HOME, so each call gets an empty one.
export async function inspect(url, bearer, ...args) {
  const header = bearer ? ['--header', `Authorization: Bearer ${bearer}`] : [];
  const home = await mkdtemp(join(tmpdir(), 'inspector-'));
  try {
    const { code, out, err } = await run(INSPECTOR, ['--cli', url, '--transport', 'http', ...header, ...args], { CI: 'true', HOME: home });
    if (code !== 0) throw new Error(`the inspector ended with ${code}: ${err || out}`);
    return JSON.parse(out);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}
