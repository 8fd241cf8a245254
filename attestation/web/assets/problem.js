// Says what went wrong with a part of a page that htmx asked for: htmx itself leaves the page as it was. The
// one clear line of the server's answer stands before what was to change, as text, until the next answer.
(() => {
    'use strict';

    const lineOf = (request) => {
        const type = request.getResponseHeader('Content-Type') || '';
        if (type.startsWith('text/html')) {
            const page = new DOMParser().parseFromString(request.responseText, 'text/html');
            return page.querySelector('[role=alert]')?.textContent.trim();
        }
        try {
            return JSON.parse(request.responseText).error.message;
        } catch {
            return '';
        }
    };

    const idOf = (target) => `${target.id || 'page'}-problem`;

    const clear = (target) => document.getElementById(idOf(target))?.remove();

    const show = (event, line) => {
        const { target, elt, requestConfig } = event.detail;
        clear(target);
        const problem = document.createElement('p');
        problem.id = idOf(target);
        problem.className = 'error problem';
        problem.setAttribute('role', 'alert');
        problem.tabIndex = -1;
        problem.textContent = line;
        target.before(problem);
        // A button that was pressed leads to the line; a page that renews itself, or a search as it is typed,
        // leaves the focus where it is.
        if (requestConfig?.triggeringEvent?.type === 'submit') problem.focus();
        if (elt === target) target.classList.add('outdated');
    };

    document.addEventListener('htmx:afterRequest', (event) => {
        if (event.detail.successful) clear(event.detail.target);
    });
    document.addEventListener('htmx:responseError', (event) => {
        const { xhr } = event.detail;
        show(event, lineOf(xhr) || `The server answered ${xhr.status} and did not say why. Its log does.`);
    });
    document.addEventListener('htmx:sendError', (event) =>
        show(event, 'The server cannot be reached. What is shown here is from before; check the network and try again.'));
    document.addEventListener('htmx:timeout', (event) =>
        show(event, 'The server did not answer in time. What is shown here is from before; try again.'));
})();
