// What the browser tests stand on: the server, Chromium, and a page that fails the test for whatever it should
// not do: break its content security policy, log an error, ask another host for anything, answer 500.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import path from 'node:path';

const CHROMIUM_ARGUMENTS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];
// What is waited for is a state; this only bounds a failure, on a machine that is busy with other things.
const PATIENCE = 300000;

export class Harness {
    constructor(serverProgram, chromiumProgram, nodeModules, screenshots) {
        Object.assign(this, { serverProgram, chromiumProgram, screenshots });
        this.playwright = createRequire(path.join(nodeModules, 'x.js'))('playwright-core');
        this.failures = [];
        this.checks = 0;
        mkdirSync(screenshots, { recursive: true });
    }

    async start() {
        this.server = spawn(this.serverProgram, [], { stdio: ['pipe', 'pipe', 'inherit'] });
        const gone = new Promise((_, reject) => {
            this.server.once('error', reject);
            this.server.once('exit', (code) => reject(new Error(`the server ended with ${code} before it was ready`)));
        });
        const lines = createInterface({ input: this.server.stdout });
        const ready = new Promise((resolve) => lines.once('line', resolve));
        Object.assign(this, JSON.parse(await Promise.race([ready, gone])));
        gone.catch(() => {});
        this.server.once('exit', (code, signal) => {
            if (!this.stopping) this.fail(`the server ended in the middle of the test: ${signal ?? code}`);
        });
        this.browser = await this.playwright.chromium.launch({
            executablePath: this.chromiumProgram, args: CHROMIUM_ARGUMENTS, timeout: PATIENCE });
    }

    async stop() {
        this.stopping = true;
        if (this.browser) await this.browser.close();
        if (this.server) this.server.stdin.end();
    }

    // A browser window of its own, logged in with `token` if one is given. Nothing in it changes but by what the test
    // does: no colour moves (what is examined is where it moves to), and the pages that renew themselves do not.
    async open({ token, width = 1360, height = 900, scheme = 'light', script = true } = {}) {
        const context = await this.browser.newContext({ ignoreHTTPSErrors: true, viewport: { width, height },
            colorScheme: scheme, javaScriptEnabled: script, baseURL: this.url, reducedMotion: 'reduce' });
        context.setDefaultTimeout(PATIENCE);
        const page = await context.newPage();
        page.renewal = 'held';
        await page.route((url) => url.searchParams.has('live'),
            (route) => page.renewal === 'held' ? undefined : route.continue());
        page.expected = [];   // statuses, and words of the console, that the next steps are to bring about
        page.on('console', (message) => {
            const text = message.text();
            if (message.type() !== 'error' && !/content security policy/i.test(text)) return;
            if (page.expected.some((what) => text.includes(`status of ${what}`) || text.includes(`Code ${what} from`) ||
                (typeof what === 'string' && text.includes(what)))) return;
            this.fail(`console of ${page.url()}: ${text}`);
        });
        page.on('pageerror', (error) => this.fail(`script error on ${page.url()}: ${error.message}`));
        page.on('request', (request) => {
            if (!request.url().startsWith(`${this.url}/`)) this.fail(`${page.url()} asked ${request.url()}`);
        });
        page.on('response', (response) => {
            if (response.status() >= 400 && !page.expected.includes(response.status()))
                this.fail(`${response.request().method()} ${response.url()}: ${response.status()}`);
        });
        page.on('dialog', (dialog) => { this.fail(`${page.url()} opened a dialog: ${dialog.message()}`); dialog.dismiss(); });
        if (token) {
            await page.goto('/log-in');
            await page.fill('#token', token);
            await page.click('button:has-text("Log in")');
            await this.arrive(page, 'h1:has-text("Fleet overview")');
        }
        return page;
    }

    // Waits for a page that has `selector`, whole: what stands further down may come later.
    async arrive(page, selector) {
        await page.waitForSelector(selector);
        await page.waitForLoadState('load');
    }

    // A check of what becomes true in its own time: `predicate` runs in the page, with `argument`.
    async becomes(page, predicate, argument, what) {
        let holds = true;
        await page.waitForFunction(predicate, argument).catch((error) => {
            if (error.name !== 'TimeoutError') throw error;
            holds = false;
        });
        this.check(holds, what);
    }

    async shot(page, name) {
        await page.screenshot({ path: path.join(this.screenshots, `${name}.png`), fullPage: true });
    }

    fail(what) {
        this.failures.push(what);
        console.error(`FAIL ${what}`);
    }
    check(holds, what) {
        this.checks += 1;
        if (!holds) this.fail(what);
    }

    report() {
        console.log(`${this.checks - Math.min(this.failures.length, this.checks)} passed, ${this.failures.length} failed`);
        return this.failures.length === 0 ? 0 : 1;
    }
}
