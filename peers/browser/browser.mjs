// The browser of the page tests: Debian's Chromium, driven by `playwright-core`, judged by `axe-core`.
// A drive is a script beside this file that calls `drive` once and prints its findings as JSON.
//
// Environment: CHROMIUM (path of the program; THINKWORK_TEST_CHROMIUM and then /usr/bin/chromium without it).

import { AxeBuilder } from '@axe-core/playwright';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const { env } = process;
const ARGUMENTS = [
  '--no-sandbox', // the tests run as root in a container
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
  // Nothing outside this machine has a name, so a page that reaches for the network fails and is seen.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
];

export const DESKTOP = { width: 1280, height: 900 };
export const PHONE = { width: 390, height: 844 };
export const NARROWEST = { width: 320, height: 640 };
const STEP_MILLISECONDS_MAX = 20_000;

// Runs `work(browser)` with a fresh profile and home. An error is printed whole and ends the process with 1.
export async function drive(work) {
  const home = await mkdtemp(join(tmpdir(), 'browser-'));
  const browser = await chromium.launch({
    executablePath: env.CHROMIUM ?? env.THINKWORK_TEST_CHROMIUM ?? '/usr/bin/chromium',
    args: ARGUMENTS,
    env: { ...env, HOME: home },
  });
  try {
    await work(browser);
  } catch (error) {
    console.error(error);
    for (const context of browser.contexts()) {
      for (const page of context.pages()) {
        const words = await page.locator('body').innerText({ timeout: 1000 }).catch(() => '');
        console.error(`${page.url()} shows:\n${words}\n`);
      }
    }
    process.exitCode = 1;
  } finally {
    await browser.close();
    await rm(home, { recursive: true, force: true, maxRetries: 5 });
  }
}

// A person: own cookies (or those of `context`), one page. `page.problems` gathers what a visitor would not see but a tester must:
// console errors, uncaught errors and requests that failed.
export async function person(browser, { viewport = DESKTOP, context: theirs, ...options } = {}) {
  const context = theirs ?? await browser.newContext({ viewport, ...options });
  context.setDefaultTimeout(STEP_MILLISECONDS_MAX);
  const page = await context.newPage();
  page.problems = [];
  page.on('console', (message) => message.type() === 'error' && page.problems.push(`${message.text()} at ${message.location().url}`));
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('requestfailed', (request) => {
    const reason = request.failure()?.errorText;
    // A page that is left while it streams ends its stream; that is no failure.
    if (reason !== 'net::ERR_ABORTED') page.problems.push(`${reason} ${request.url()}`);
  });
  return page;
}

// What axe finds against WCAG 2.2 AA (or by these of its rules alone), as one short line per finding.
export async function accessibility(page, rules = []) {
  const axe = new AxeBuilder({ page });
  const chosen = rules.length ? axe.withRules(rules) : axe.withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']);
  const { violations } = await chosen.analyze();
  return violations.flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help} at ${node.target.join(' ')}`));
}

// Whether the page can be scrolled sideways, which no page may at its viewport's width.
export function overflows(page) {
  return page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
}

// What sticks out of its panel, its row or the window, where nobody can scroll to it: at most three, as their words.
export function clipped(page) {
  return page.evaluate(() => {
    const scrolls = (element) => {
      for (let one = element.parentElement; one && one.tagName !== 'MAIN'; one = one.parentElement) {
        if (getComputedStyle(one).overflowX !== 'visible') return true;
      }
      return false;
    };
    const sticksOut = (element) => {
      const box = element.getBoundingClientRect();
      const around = element.parentElement.closest('.panel, .rows, .notice');
      const edge = Math.min(window.innerWidth, around ? around.getBoundingClientRect().right : Infinity);
      return element.checkVisibility() && box.width > 0 && box.right > edge + 1 && !scrolls(element);
    };
    return [...document.querySelectorAll('main *')].filter(sticksOut).slice(0, 3)
      .map((element) => `${element.tagName.toLowerCase()} "${element.textContent.trim().slice(0, 40)}"`);
  });
}

// Signs in and consents at `oidc.mjs`, on whose pages the page must be; ends where the provider returns.
export async function consent(page, { name, deny = false }) {
  const issuer = new URL(page.url()).origin;
  const login = page.locator('input[name=login]');
  const confirm = page.locator('button.login-submit:not(form:has(input[name=login]) *)');
  await login.or(confirm).first().waitFor();
  if (await login.count()) {
    await login.fill(name);
    await page.locator('input[name=password]').fill('any');
    await page.getByRole('button', { name: 'Sign-in' }).click();
    await confirm.waitFor();
  }
  if (deny) await page.getByRole('link', { name: 'Cancel' }).click();
  else await confirm.click();
  await page.waitForURL((url) => url.origin !== issuer);
}
