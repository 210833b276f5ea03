// What people do at ThinkWork's pages, for the drives beside it.

import { consent, person } from './browser.mjs';

export const INPUT = JSON.parse(process.env.INPUT ?? '{}');
export const at = (path) => new URL(path, INPUT.base).href;

// What went wrong at ThinkWork's own pages; what the provider's pages load is its own matter.
export const problems = (...pages) => pages.flatMap((page) => page.problems).filter((problem) => problem.includes(new URL(INPUT.base).host));

// Somebody opens their invitation, chooses a password, and is signed in by that.
export async function join(browser, { invitation, password }, options = {}) {
  const page = await person(browser, options);
  await page.goto(invitation);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByLabel('Confirm password').fill(password);
  await page.getByRole('button', { name: 'Save and sign in' }).click();
  await page.waitForURL((url) => url.pathname === '/me' || url.pathname === '/admin');
  return page;
}

// From the list of servers to the provider's own pages, on which the page is then.
export async function towardsConsent(page, server) {
  await page.goto(at('/me/mcp-servers'));
  await page.getByRole('link', { name: /^(Rec|C)onnect/ }).and(page.locator(`a[href*="${server}"]`)).click();
  await page.getByRole('button', { name: 'Connect' }).click();
  await page.waitForURL((url) => url.origin === INPUT.issuer);
}

// The whole of it: back at the row it began from.
export async function connect(page, server, name) {
  await towardsConsent(page, server);
  await consent(page, { name });
  await page.waitForURL((url) => url.pathname === '/me/mcp-servers');
}

// The row of a server: its words, and what its one button says.
export async function row(page, server) {
  const found = page.locator(`li.row[id="${server}"]`);
  return { badge: await found.locator('[data-status]').getAttribute('data-status'), words: await found.innerText() };
}

// Writes at the end of an open thread.
export async function write(page, text) {
  await page.getByLabel('Message the agent').fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
  await page.waitForLoadState();
}

// Begins a thread in a Space and ends in it.
export async function begin(page, space, text) {
  await page.goto(at(`/me/spaces/${space}`));
  await page.getByLabel('Message').fill(text);
  await page.getByRole('button', { name: 'Start thread' }).click();
  await page.waitForURL((url) => url.pathname.startsWith('/me/threads/'));
}

// The thread's newest turn that has ended, opened, once there are `count` such turns.
export async function turn(page, count) {
  const ended = page.locator('.turn:has(> details > summary [data-status="succeeded"], > details > summary [data-status="failed"])');
  await ended.nth(count - 1).waitFor();
  const last = ended.nth(count - 1);
  await last.locator('details').first().evaluate((details) => { details.open = true; });
  return last;
}
