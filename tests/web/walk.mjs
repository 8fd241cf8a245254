// node walk.mjs WEB_TEST_SERVER CHROMIUM NODE_MODULES SCREENSHOTS [STEP...]
//
// Walks every page of a server with a fleet in it, in light and dark, wide and narrow, with and without
// scripts, and does by keyboard and mouse what an operator does.
import { findFaults } from './accessibility.mjs';
import { Harness } from './harness.mjs';

const [serverProgram, chromiumProgram, nodeModules, screenshots, ...wanted] = process.argv.slice(2);
const harness = new Harness(serverProgram, chromiumProgram, nodeModules, screenshots);
const check = harness.check.bind(harness), arrive = harness.arrive.bind(harness), becomes = harness.becomes.bind(harness);

// In the page: whether the first element of a selector is whole within the window; whether an id has the focus.
const isInWindow = (selector) => {
    const box = document.querySelector(selector).getBoundingClientRect();
    return box.top >= 0 && box.bottom <= innerHeight;
};
const hasFocus = (id) => document.activeElement?.id === id;

// The address of the first endpoint of a state whose name has `text`.
const endpointOf = async (page, state, text = '') => {
    await page.goto(`/endpoints?state=${state}`);
    return page.locator('tbody th a', { hasText: text }).first().getAttribute('href');
};

const examine = async (page, name) => {
    const { faults, lowest } = await page.evaluate(findFaults);
    for (const fault of faults) harness.fail(`${name}: ${fault}`);
    check(faults.length === 0, `${name}: accessible`);
    lowestContrast = Math.min(lowestContrast, lowest);
};
let lowestContrast = 21;

const walkPages = async () => {
    const looks = [['light', 1360], ['dark', 1360], ['light', 390], ['dark', 390]];
    for (const [scheme, width] of looks) {
        const page = await harness.open({ token: harness.admin, scheme, width, height: width < 500 ? 844 : 900 });
        const untrusted = await endpointOf(page, 'untrusted', 'laptop-');
        const trusted = await endpointOf(page, 'trusted', 'laptop-');
        const kiosk = await endpointOf(page, 'unmeasured', 'kiosk-');
        await page.goto('/enrollments');
        const enrollment = await page.locator('tbody th a').first().getAttribute('href');
        const pages = { overview: '/', 'overview-week': '/?hours=168', endpoints: '/endpoints', 'endpoints-untrusted': '/endpoints?state=untrusted',
            'endpoints-nothing': '/endpoints?q=nowhere', 'endpoint-untrusted': untrusted, 'endpoint-trusted': trusted,
            'endpoint-unmeasured': `${kiosk}?against=kiosks%3A3`, retire: `${trusted}/retire`, enrollments: '/enrollments', enrollment,
            'enrollments-rejected': '/enrollments?state=rejected', policies: '/policies', policy: '/policies/laptops/7',
            enforce: '/assignments/change?group=laptops&policy=laptops&version=7&to=enforce',
            unassign: '/assignments/change?group=laptops&policy=laptops&version=6&to=none', audit: '/audit', tokens: '/tokens',
            'token-revoke': '/tokens/rita/revoke', settings: '/settings',
            'authority-remove': '/settings/authorities/security-team/remove' };
        for (const [name, address] of Object.entries(pages)) {
            await page.goto(address);
            await examine(page, `${name}, ${scheme}, ${width}`);
            await harness.shot(page, `${name}-${scheme}-${width}`);
        }
        page.expected = [404];
        await page.goto('/endpoints/nobody');
        await examine(page, `not found, ${scheme}, ${width}`);
        await page.context().close();
        const stranger = await harness.open({ scheme, width });
        await stranger.goto('/log-in');
        await examine(stranger, `log-in, ${scheme}, ${width}`);
        await harness.shot(stranger, `log-in-${scheme}-${width}`);
        await stranger.context().close();
    }
};

const refusesLogIn = async () => {
    const page = await harness.open();
    page.expected = [401];
    await page.goto('/policies');
    check(page.url().endsWith('/log-in?next=%2Fpolicies'), 'a stranger is led to the log-in page');
    await page.fill('#token', 'gh_wrong');
    await page.keyboard.press('Enter');
    await arrive(page, '[role=alert]');
    check(await page.locator('[role=alert]').innerText() === 'That token is not valid.', 'a wrong token is refused');
    await page.fill('#token', harness.reader);
    await page.keyboard.press('Enter');
    await arrive(page, 'h1:has-text("Policies")');
    check(await page.locator('button:has-text("Upload")').count() === 0, 'a reader is not offered an upload');
    const cookies = await page.context().cookies();
    const session = cookies.find((cookie) => cookie.name === '__Host-gatehouse');
    check(session && session.httpOnly && session.secure && session.sameSite === 'Strict', 'the cookie stays where it belongs');
    await page.click('button:has-text("Log out")');
    await arrive(page, 'h1:has-text("Log in")');
    await page.goto('/');
    check(page.url().includes('/log-in'), 'logged out');
    await page.context().close();
};

// Presses Tab until the focus is on what `selector` names.
const tabTo = async (page, selector, most = 80) => {
    for (let i = 0; i < most; i += 1) {
        await page.keyboard.press('Tab');
        const there = await page.evaluate((wanted) => document.activeElement?.matches(wanted), selector);
        if (!there) continue;
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        check(outline !== 'none', `the focus is seen on ${selector}`);
        return;
    }
    throw new Error(`the keyboard does not reach ${selector} on ${page.url()}`);
};

// Every stop of the Tab key, in the order of the page, is seen where it is and has an outline.
const showsEachStopOfTheKeyboard = async () => {
    const page = await harness.open({ token: harness.admin, width: 1280, height: 800 });
    const places = { '/': 'Overview', '/endpoints?state=untrusted': 'Endpoints', '/policies/laptops/7': 'Policies',
        '/settings': 'Settings' };
    for (const [address, menu] of Object.entries(places)) {
        await page.goto(address);
        check((await page.locator('nav[aria-label=Main] [aria-current=page]').allInnerTexts()).join() === menu,
            `${address}: the menu tells where one is`);
        const moving = await page.evaluate(() => [...document.querySelectorAll('a, button')].filter(
            (one) => getComputedStyle(one).transitionDuration !== '0s').length);
        check(moving === 0, `${address}: nothing moves for those who want it so`);
        const faults = [];
        let stops = 0, before = null;
        for (; stops < 30; stops += 1) {
            await page.keyboard.press('Tab');
            const stop = await page.evaluate(() => {
                const one = document.activeElement;
                window.stops ??= [];
                if (!one || one === document.body || window.stops.includes(one)) return null;   // round once
                const last = window.stops.at(-1);
                window.stops.push(one);
                const style = getComputedStyle(one), box = one.getBoundingClientRect();
                return { name: `${one.tagName} "${(one.textContent || one.id).trim().slice(0, 30)}"`, skip: one.matches('.skip'),
                    outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
                    seen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
                    ordered: !last || Boolean(last.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING) };
            });
            if (!stop) break;
            if (before === null && !stop.skip) faults.push('the skip link is not first');
            if (!stop.outline) faults.push(`no outline: ${stop.name}`);
            if (!stop.seen) faults.push(`out of sight: ${stop.name}`);
            if (!stop.ordered) faults.push(`out of order: ${stop.name}`);
            before = stop;
        }
        for (const fault of faults) harness.fail(`${address}: ${fault}`);
        check(stops > 8 && faults.length === 0, `${address}: the keyboard's way is seen`);
    }
    await page.context().close();
};

const approvesByKeyboard = async () => {
    const page = await harness.open();
    await page.goto('/log-in');
    await becomes(page, hasFocus, 'token', 'the field has the focus');
    await page.keyboard.type(harness.operator);
    await page.keyboard.press('Enter');
    await arrive(page, 'h1:has-text("Fleet overview")');
    await tabTo(page, '.skip');
    await page.keyboard.press('Enter');
    await becomes(page, hasFocus, 'main', 'the skip link leads to the content');
    await page.goto('/');
    await tabTo(page, 'nav a[href="/enrollments"]');
    await page.keyboard.press('Enter');
    await arrive(page, 'h1:has-text("Enrollments")');
    const before = await page.locator('tbody th').count();
    const hostname = 'laptop-1310';
    const link = await page.locator('tbody th a', { hasText: hostname }).getAttribute('href');
    await tabTo(page, `a[href="${link}"]`);
    await page.keyboard.press('Enter');
    await arrive(page, 'h2:has-text("Approve")');
    await tabTo(page, '#approve-group');
    await page.keyboard.press('l');   // one: the second of two slow letters is a first letter again
    await becomes(page, () => document.querySelector('#approve-group').value === 'laptops', null, 'the group is chosen by keyboard');
    await tabTo(page, '#approve button');
    await page.keyboard.press('Enter');
    await arrive(page, '.notice');
    check((await page.locator('.notice').innerText()).includes(`${hostname} is approved into the group laptops`), 'approved');
    check(await page.locator('tbody th').count() === before - 1, 'it waits no longer');
    await page.goto(`/endpoints?state=new&q=${hostname}`);
    check(await page.locator('tbody th').count() === 1, 'it is an endpoint now');
    await page.context().close();
};

const searches = async () => {
    const page = await harness.open({ token: harness.reader });
    await page.goto('/endpoints');
    const rows = (many) => document.querySelectorAll('#results tbody tr').length === many;
    const all = await page.locator('#results tbody tr').count();
    await page.fill('#q', 'kiosk');   // at once: key by key, a slow machine asks, and keeps in its history, more than once
    await page.waitForURL(/q=kiosk/);
    await becomes(page, rows, 6, 'the search finds the six kiosks');
    check(await page.evaluate(hasFocus, 'q'), 'the search keeps the focus');
    await page.selectOption('#group', 'laptops');
    await page.waitForSelector('.empty-title');
    await page.goBack();
    await becomes(page, rows, 6, 'going back shows the kiosks again');
    await page.goBack();
    await becomes(page, rows, all, 'and then the whole list');
    await page.context().close();
};

const showsTheFailingEvent = async () => {
    const page = await harness.open({ token: harness.operator });
    await page.goto(await endpointOf(page, 'untrusted', 'laptop-'));
    const row = page.locator('#failing-event');
    check((await row.innerText()).includes('kernel'), 'the failing event is the kernel');
    const colors = await page.evaluate(() => ['#failing-event', '.events tbody tr:not(.failing)'].map(
        (one) => getComputedStyle(document.querySelector(one)).backgroundColor));
    check(colors[0] !== colors[1], 'it is highlighted');
    check((await row.locator('.spoken').textContent()) === 'does not belong', 'in words, too');
    await page.click('.failing-link');
    await becomes(page, isInWindow, '#failing-event', 'the link leads to it');
    await page.selectOption('#against', 'laptops:7');
    await page.click('#explain button');
    await page.waitForSelector('.differences li');
    await harness.shot(page, 'endpoint-compared');
    await page.click('button:has-text("Attest now")');
    await arrive(page, '.notice');
    await page.selectOption('#move-group', 'build-servers');
    await page.click('#move button');
    await arrive(page, '.notice:has-text("build-servers")');
    await page.context().close();
};

const hostileNamesAreText = async () => {
    const page = await harness.open({ token: harness.admin });
    await page.goto('/endpoints?state=untrusted');
    await page.locator('tbody th a', { hasText: '<script>alert(1)</script>' }).click();
    await arrive(page, 'h1:has-text("<script>alert(1)</script>")');
    check(await page.locator('main script, main img').count() === 0, 'a hostile name makes no element');
    check((await page.locator('.events').innerText()).includes('<b>x"\''), 'a hostile event name is shown as it is');
    await harness.shot(page, 'endpoint-hostile');
    await page.goto('/endpoints?q=invoice');
    check((await page.locator('tbody th').first().innerText()).includes('⟨U+202E⟩'), 'a bidirectional override is shown');
    await page.context().close();
};

const makesTokensAndVerifies = async () => {
    const page = await harness.open({ token: harness.admin, scheme: 'dark' });
    await page.goto('/tokens');
    page.expected = [400];
    await page.fill('#name', 'Not allowed');
    await page.click('#token button');
    await arrive(page, '#token-error');
    check(await page.inputValue('#name') === 'Not allowed', 'what was filled in is kept');
    await examine(page, 'a refused form');
    await harness.shot(page, 'token-refused');
    page.expected = [];
    await page.fill('#name', 'ci');
    await page.click('#token button');
    await arrive(page, '.notice .secret');
    check(/^gh_/.test(await page.locator('.secret').innerText()), 'the token is shown');
    await examine(page, 'a token shown once');
    await harness.shot(page, 'token-made');
    await page.reload();
    check(await page.locator('.secret').count() === 0, 'once');
    await page.goto('/audit');
    await page.click('button:has-text("Verify")');
    await arrive(page, '#verification .mark.good');
    await examine(page, 'a verified audit log');
    await page.click('.themes button[value=light]');
    await arrive(page, 'html[data-theme=light]');
    check(await page.evaluate(() => getComputedStyle(document.body).colorScheme) === 'light', 'the chosen colours win over the system\'s');
    await page.context().close();
};

const worksWithoutScripts = async () => {
    const page = await harness.open({ token: harness.operator, script: false });
    await page.goto('/endpoints');
    await page.fill('#q', 'kiosk');
    await page.click('.filters button');
    await page.waitForURL(/q=kiosk/);
    check(await page.locator('tbody tr').count() === 6, 'the search works without scripts');
    await page.goto('/enrollments');
    await page.locator('tbody th a', { hasText: 'kiosk-lobby-7' }).click();
    await page.fill('#reject-reason', 'not ours');
    await page.click('#reject button');
    await arrive(page, '.notice');
    check((await page.locator('.notice').innerText()).includes('Rejected'), 'a form works without scripts');
    await page.context().close();
};

// A change on the server, made elsewhere, appears in the page that is open.
const renewsItself = async () => {
    const page = await harness.open({ token: harness.reader });
    page.renewal = 'free';
    const before = Number(await page.locator('#live .tile.retired .figure').innerText());
    const elsewhere = await harness.open({ token: harness.operator });
    await elsewhere.goto(`${await endpointOf(elsewhere, 'trusted', 'laptop-')}/retire`);
    await elsewhere.fill('#reason', 'renewal');
    await elsewhere.click('button.danger');
    await arrive(elsewhere, '.notice');
    await elsewhere.context().close();
    await page.evaluate(() => {
        window.isTheSamePage = true;
        void htmx.ajax('GET', '/?live=1', { source: '#live', target: '#live', swap: 'outerHTML', select: '#live' });
    });
    await becomes(page, (many) => Number(document.querySelector('#live .tile.retired .figure')?.innerText) === many,
        before + 1, 'the overview renews itself');
    check(await page.evaluate(() => window.isTheSamePage === true), 'without being loaded again');
    check(await page.locator('#live').count() === 1, 'and there is one of it');
    await page.context().close();
};

// Who a staged policy would refuse, from its count to the diff of one of them.
const showsTheStagedEffect = async () => {
    const page = await harness.open({ token: harness.reader });
    await page.goto('/policies');
    const count = page.locator('a[href*="/policies/laptops/7"].bad-text');
    const many = Number((await count.innerText()).match(/\d+/)[0]);
    await count.click();
    await arrive(page, '#refused tbody tr');
    check(await page.locator('#refused tbody tr').count() === Math.min(many, 50), 'as many are listed as were counted');
    const rows = page.locator('#refused tbody tr');
    check((await rows.allInnerTexts()).every((row) => /0\.2\.0|digest is not/.test(row)), 'each with what it lacks');
    // Of those whose name can be typed as it is shown, and any may be the last: the list is in the order of random identifiers.
    const name = await rows.filter({ hasText: '0.2.0' }).filter({ hasText: 'laptop-' }).last().locator('th').innerText();
    await page.fill('#q', name);
    await page.waitForFunction(() => document.querySelectorAll('#refused tbody tr').length === 1);
    check(await page.locator('#refused tbody th').innerText() === name, 'the search finds one of them');
    await page.click('#refused a:has-text("Diff")');
    await arrive(page, '.differences li');
    check((await page.locator('h1').innerText()) === name, 'the diff is on its page');
    check((await page.locator('.differences').innerText()).includes('0.2.0'), 'and says what differs');
    await page.context().close();
};

// From the number on the overview to the cause, and to what to do: three clicks.
const findsTheCauseAtNight = async () => {
    const page = await harness.open({ token: harness.operator, scheme: 'dark', width: 1280, height: 800 });
    const many = Number(await page.locator('.tile.untrusted .figure').innerText());
    await page.click('.tile.untrusted');
    await arrive(page, '#results tbody tr');
    check(await page.locator('#results tbody tr').count() === many, 'one click shows all who are untrusted');
    await page.locator('#results tbody th a', { hasText: 'laptop-' }).first().click();
    await arrive(page, '.banner .next');
    check(await page.evaluate(isInWindow, '.banner'), 'why and what to do are seen without scrolling');
    check((await page.locator('.banner .reason').first().innerText()).includes(':'), 'the failing rule is named');
    await page.click('.banner .next a[href="#failing-event"]');
    await becomes(page, isInWindow, '#failing-event', 'the banner leads to the failing event');
    for (const link of await page.locator('.banner .next a').all())
        check(await page.locator(await link.getAttribute('href')).count() === 1, `${await link.innerText()} leads somewhere`);
    await harness.shot(page, 'night-1280');
    await page.context().close();
};

// What a part of a page is answered with is said beside it, never passed over.
const saysWhatWentWrong = async () => {
    const page = await harness.open({ token: harness.operator });
    const problem = (id) => page.locator(`#${id}-problem`);
    await page.goto('/endpoints');
    const all = await page.locator('tbody tr').count();
    page.expected = [400];
    await page.evaluate(() => { document.querySelector('.filters [name=state]').value = '<i>purple</i>'; });
    await page.fill('#q', 'kiosk');   // at once: key by key, a slow machine asks more than once
    await problem('results').waitFor();
    check(await problem('results').innerText() === 'state: there is no state "<i>purple</i>"', 'a refused search says why');
    check(await problem('results').getAttribute('role') === 'alert', 'as an alert');
    check(await page.evaluate(hasFocus, 'q'), 'typing goes on');
    check(await page.locator('tbody tr').count() === all, 'the list is still there');
    await examine(page, 'a refused search');
    await harness.shot(page, 'search-refused');
    page.expected = [];
    await page.evaluate(() => { document.querySelector('.filters [name=state]').value = ''; });
    await page.locator('#q').press('Enter');
    await problem('results').waitFor({ state: 'detached' });
    check(true, 'the next answer takes the line away');

    await page.goto(await endpointOf(page, 'untrusted', 'laptop-'));
    page.expected = [404];
    await page.evaluate(() => { document.querySelector('#against option').value = 'laptops:99'; document.querySelector('#against').selectedIndex = 0; });
    await page.click('#explain button');
    await problem('explain').waitFor();
    check((await problem('explain').innerText()).includes('laptops:99'), 'a policy that is gone is named');
    await becomes(page, hasFocus, 'explain-problem', 'a pressed button leads to the line');

    await page.goto('/endpoints');
    page.expected = ['ERR_INTERNET_DISCONNECTED', 'htmx:sendError', 'htmx:afterRequest'];
    await page.context().setOffline(true);
    await page.locator('#q').pressSequentially('a');
    await problem('results').waitFor();
    check((await problem('results').innerText()).includes('cannot be reached'), 'a lost network is said');
    await harness.shot(page, 'network-lost');
    await page.context().setOffline(false);
    page.expected = [];
    await page.locator('#q').press('Enter');
    await problem('results').waitFor({ state: 'detached' });

    await page.goto('/endpoints?state=stale');
    page.expected = [401];
    await page.context().clearCookies();
    await page.locator('#q').pressSequentially('b');
    await arrive(page, 'h1:has-text("Log in")');
    await page.fill('#token', harness.operator);
    await page.keyboard.press('Enter');
    await arrive(page, 'h1:has-text("Endpoints")');
    check(page.url().endsWith('/endpoints?state=stale'), 'a lost session leads to the log-in and back');
    await page.context().close();
};

const steps = { refusesLogIn, saysWhatWentWrong, showsTheStagedEffect, findsTheCauseAtNight, showsEachStopOfTheKeyboard,
    walkPages, searches, showsTheFailingEvent, hostileNamesAreText, makesTokensAndVerifies, worksWithoutScripts, renewsItself, approvesByKeyboard };
try {
    await harness.start();
    for (const [name, step] of Object.entries(steps)) {
        if (wanted.length !== 0 && !wanted.includes(name)) continue;
        console.log(`- ${name}`);
        try {
            await step();
        } catch (error) {
            harness.fail(`${name}: ${error.stack}`);
        }
    }
    console.log(`lowest contrast of any text: ${lowestContrast.toFixed(2)}`);
} finally {
    await harness.stop();
}
process.exitCode = harness.report();
