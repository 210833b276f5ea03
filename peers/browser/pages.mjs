// Two people furnish a tenant by the pages alone; then every page of both faces is looked at, on a phone and at a desk,
// light and dark: axe, width, what the browser complains of, other origins, the keyboard. Prints {findings, seen}.
// INPUT: base, issuer, server, space, tools, model, images, every, keep, omar, ana, ben and carla {invitation, password}.

import { mkdir } from 'node:fs/promises';
import { join as path } from 'node:path';
import { run, HERE } from '../programs.mjs';
import { accessibility, clipped, drive, overflows, person } from './browser.mjs';
import { INPUT, at, begin, connect, join, problems, turn, write } from './people.mjs';

const DESK = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
const NARROW = { width: 320, height: 640 };
const TABS_MAX = 150;
// The rules of axe that another dress or size can break.
const DRESS_AND_SIZE = ['color-contrast', 'target-size', 'scrollable-region-focusable'];
const findings = [];
const seen = {};

// The operator's three wizards, each to its proof.
async function furnish(omar) {
  await omar.goto(at('/admin/mcp-servers/new'));
  await omar.locator('#f-name').fill('Office tools');
  await omar.locator('#f-url').fill(INPUT.tools);
  await omar.getByRole('radio', { name: /^None/ }).check();
  await omar.getByRole('button', { name: 'Register server' }).click();
  await omar.getByRole('button', { name: 'Approve', exact: true }).click();
  await omar.locator('#f-space').selectOption({ label: 'Invoices' });
  await omar.getByRole('button', { name: 'Add to Space' }).click();
  await omar.locator('.notice-good').waitFor();

  await omar.goto(at('/admin/webhooks/new'));
  await omar.locator('#f-name').fill('billing');
  await omar.locator('#f-space_id').selectOption({ label: 'Invoices' });
  await omar.getByRole('button', { name: 'Create webhook' }).click();
  const secret = (await omar.locator('.secret code').innerText()).trim();
  const url = (await omar.locator('.id code').first().innerText()).trim();
  await look(omar, 'admin-webhook-secret', { reload: false });
  await omar.getByRole('link', { name: /stored it/ }).click();
  await look(omar, 'admin-webhook-waiting', { reload: false });
  const event = (id, invoice) => ({ id, body: JSON.stringify({ type: 'invoice.paid', invoice, amount: '240.00 EUR', customer: 'Lindqvist & Sons' }) });
  const send = ({ id, body }, env = {}) => run(path(HERE, 'sender.mjs'), [url, secret, body], { MESSAGE_ID: id, ...env });
  const paid = event('msg_1001', 'INV-1001');
  await send(paid);
  await omar.getByRole('link', { name: 'View delivery' }).waitFor();
  seen.webhookProof = await omar.locator('main').innerText();
  await send(paid);
  await send(event('msg_1002', 'INV-1002'), { TAMPER: 'yes' });

  await omar.goto(at('/admin/spaces'));
  await omar.locator('#f-name').fill('Hiring');
  await omar.getByRole('button', { name: 'Create Space' }).click();
  await omar.goto(at('/admin/agent'));
  await omar.locator('#f-model_base_url').fill(INPUT.model);
  await omar.locator('#f-model').fill('house-model');
  await omar.locator('#f-instructions').fill('Answer in one sentence. Name the invoice you speak of.');
  await omar.getByRole('button', { name: 'Save' }).click();
  await omar.goto(at('/admin/tokens'));
  await omar.locator('#f-name').fill('Nightly report');
  await omar.getByRole('button', { name: 'Create token' }).click();
  await omar.locator('.secret').waitFor();
}

// The member connects, the operator then sees the tools and says what they do, and the agent uses them.
async function work(omar, ana) {
  await connect(ana, INPUT.server, 'ada');
  await begin(ana, INPUT.space, '/tool notes__search {"query": "plumber"}');
  await turn(ana, 1);
  await omar.goto(at(`/admin/mcp-servers/${INPUT.server}`));
  await omar.locator('#tool-search select').selectOption('read');
  await omar.getByRole('button', { name: /Approve/ }).click();
  await omar.locator('.notice-good').waitFor();
  await begin(ana, INPUT.space, 'Please find my invoice.');
  await turn(ana, 1);
  await ana.getByText('I found your invoice.').waitFor();
  seen.thread = new URL(ana.url()).pathname;
}

// The same by keys alone: into the box, the words, the button.
async function byKeys(ben) {
  await ben.goto(at(`/me/spaces/${INPUT.space}`));
  await tabTo(ben, '#f-text');
  await ben.keyboard.type('/tool notes__search {"query": "invoice"}');
  await tabTo(ben, 'form button.button-primary');
  await ben.keyboard.press('Enter');
  await ben.waitForURL((url) => url.pathname.startsWith('/me/threads/'));
  seen.leftOut = await (await turn(ben, 1)).innerText();
  seen.benThread = new URL(ben.url()).pathname;
}

async function tabTo(page, selector) {
  for (let count = 0; count < TABS_MAX; count += 1) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return true;
  }
  return false;
}

// One page at every size and in both dresses; what is wrong becomes a finding.
async function look(page, name, { reload = true, address } = {}) {
  const find = (text) => findings.push(`${name}: ${text}`);
  const shot = (kind, whole) => page.screenshot({ path: path(INPUT.images, `${name}-${kind}.png`), fullPage: whole, animations: 'disabled' });
  await page.setViewportSize(DESK);
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  if (reload) await page.goto(at(address));
  for (const details of await page.locator('.turn > details').all()) await details.evaluate((one) => { one.open = true; });
  for (const [size, scheme, kind] of [[DESK, 'light', '1280'], [DESK, 'dark', '1280-dark'], [PHONE, 'dark', '390-dark'], [PHONE, 'light', '390']]) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme: scheme });
    if (await overflows(page)) find(`wider than ${size.width}`);
    for (const words of await clipped(page)) find(`${kind} cuts off ${words}`);
    if (kind === '1280') for (const problem of await accessibility(page)) find(`${kind} ${problem}`);
    if (kind === '390-dark') for (const problem of await accessibility(page, DRESS_AND_SIZE)) find(`${kind} ${problem}`);
    if (INPUT.every || kind === '390-dark' || kind === '1280') await shot(kind, true);
    if (INPUT.keep[name] === kind) await page.screenshot({ path: path(INPUT.images, 'keep', `${name}-${kind}.png`), animations: 'disabled' });
  }
  await page.setViewportSize(NARROW);
  if (await overflows(page)) find('wider than 320');
  for (const words of await clipped(page)) find(`320 cuts off ${words}`);
  await page.setViewportSize(DESK);
  await page.emulateMedia({ colorScheme: 'light' });
  if (reload && await page.locator('main .button-primary:visible').count()) {
    if (!await tabTo(page, 'main .button-primary')) find('its main act cannot be reached by Tab');
  }
}

async function walk(page, addresses) {
  for (const [name, address] of Object.entries(addresses)) await look(page, name, { address });
}

// Another window of somebody who is signed in, which tells each request that leaves our origin.
async function window(of) {
  const page = await person(of.browser, { context: of.context });
  const origin = new URL(INPUT.base).origin;
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) findings.push(`${page.url()} asks ${request.url()}`);
  });
  return page;
}

async function linked(page, list, pattern) {
  await page.goto(at(list));
  const found = await page.locator('main a').evaluateAll((links) => links.map((link) => link.getAttribute('href')));
  return found.find((href) => pattern.test(href)) ?? findings.push(`${list} leads to nothing like ${pattern}`);
}

await drive(async (browser) => {
  await mkdir(path(INPUT.images, 'keep'), { recursive: true });
  const nobody = await window({ browser });
  await look(nobody, 'sign-in', { address: '/sign-in' });
  await look(nobody, 'invitation', { address: INPUT.carla.invitation });
  await look(nobody, 'invitation-wrong', { address: '/invitation?code=wrong' });

  const [omar, ana, ben] = [await join(browser, INPUT.omar), await join(browser, INPUT.ana), await join(browser, INPUT.ben)];
  const empty = await window({ browser, context: ben.context() });
  const ofNew = { 'me-home-new': '/me', 'me-connections-empty': '/me/connections', 'me-uses-empty': '/me/uses', 'me-space-empty': `/me/spaces/${INPUT.space}` };
  const operator = await window({ browser, context: omar.context() });
  await Promise.all([walk(empty, ofNew), walk(operator, { 'admin-webhooks-empty': '/admin/webhooks', 'admin-threads-empty': '/admin/threads' })]);

  await furnish(omar);
  await work(omar, ana);
  await byKeys(ben);

  const member = await window({ browser, context: ana.context() });
  const disconnect = await linked(member, '/me/connections', /disconnect$/);
  const ofMember = {
    'me-home': '/me', 'me-connections': '/me/connections', 'me-disconnect': disconnect, 'me-mcp-servers': '/me/mcp-servers',
    'me-connected': `/me/mcp-servers/${INPUT.server}/connect`, 'me-spaces': '/me/spaces', 'me-space': `/me/spaces/${INPUT.space}`,
    'me-space-tools': `/me/spaces/${INPUT.space}/tools`,
    'me-thread': seen.thread, 'me-uses': '/me/uses', 'me-account': '/me/account', 'me-nothing': '/me/threads/CHAT-01K00000000000000000000000',
  };
  const ofBen = {
    'me-connect': `/me/mcp-servers/${INPUT.server}/connect`, 'me-thread-left-out': seen.benThread,
    'me-space-tools-left-out': `/me/spaces/${INPUT.space}/tools`,
  };

  const webhook = await linked(operator, '/admin/webhooks', /webhooks\/whk_/);
  const delivery = await linked(operator, webhook, /deliveries\/dlv_/);
  const hooked = await linked(operator, '/admin/threads', /threads\/HOOK-/);
  const revoke = await linked(operator, '/admin/connections', /revoke$/);
  const ofOperator = {
    'admin-home': '/admin', 'admin-spaces': '/admin/spaces', 'admin-space': `/admin/spaces/${INPUT.space}`,
    'admin-space-tools': `/admin/spaces/${INPUT.space}/tools`, 'admin-threads': '/admin/threads',
    'admin-mcp-servers': '/admin/mcp-servers', 'admin-mcp-server-new': '/admin/mcp-servers/new', 'admin-mcp-server': `/admin/mcp-servers/${INPUT.server}`,
    'admin-webhooks': '/admin/webhooks', 'admin-webhook-new': '/admin/webhooks/new', 'admin-webhook': webhook, 'admin-webhook-first': `${webhook}/first`,
    'admin-delivery': delivery, 'admin-hook-thread': hooked, 'admin-connections': '/admin/connections', 'admin-revoke': revoke,
    'admin-people': '/admin/people', 'admin-tokens': '/admin/tokens', 'admin-agent': '/admin/agent', 'admin-audit': '/admin/audit',
    'admin-data-retention': '/admin/data-retention',
  };
  await Promise.all([walk(member, ofMember), walk(empty, ofBen), walk(operator, ofOperator)]);

  // A page that is not there is a 404, which the browser tells; everything else it tells is a finding.
  for (const problem of problems(nobody, omar, ana, ben, empty, operator, member)) {
    if (!/404|wrong/.test(problem)) findings.push(problem);
  }
  console.log(JSON.stringify({ findings, seen }));
});
