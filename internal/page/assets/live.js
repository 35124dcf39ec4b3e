// Keeps the page up to date: an event says that something has changed. The script then loads the page again, and
// replaces the sections that differ.
"use strict";
(() => {
  const main = document.getElementById("main");
  const line = document.getElementById("live");
  let ahead = 0; // how far the clock of the server is ahead, in milliseconds
  const clock = () => { ahead = new Date(main.dataset.now) - Date.now(); };

  // Shows a text only if it is another one, because a screen reader reads it aloud.
  const say = (text) => {
    if (line.textContent !== text) line.textContent = text;
    line.hidden = false;
  };

  // Returns an age as the server writes it.
  const elapsed = (from) => {
    const s = Math.max(0, Math.floor((Date.now() + ahead - from) / 1000));
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + "s";
    if (s < 3600) return Math.floor(s / 60) + "m";
    if (s < 86400) return Math.floor(s / 3600) + "h" + two(Math.floor(s / 60) % 60) + "m";
    return Math.floor(s / 86400) + "d" + two(Math.floor(s / 3600) % 24) + "h";
  };
  const tick = () => {
    for (const t of document.querySelectorAll("time[data-age]")) {
      const text = elapsed(new Date(t.dateTime));
      if (t.textContent !== text) t.textContent = text;
    }
  };

  // Replaces a section. Details that are open stay open, and the focus stays where it is.
  const replace = (now, next) => {
    const open = new Set([...now.querySelectorAll("details[open]")].map((d) => d.id));
    const focus = now.contains(document.activeElement) ? document.activeElement : null;
    const same = focus && [focus.id && "#" + CSS.escape(focus.id), focus.href && `a[href="${CSS.escape(focus.getAttribute("href"))}"]`, focus.localName].find(Boolean);
    now.replaceWith(next);
    for (const d of next.querySelectorAll("details")) if (open.has(d.id)) d.open = true;
    if (same) next.querySelector(same)?.focus({ preventScroll: true });
  };

  let loading = false, again = false;
  const load = async () => {
    if (loading) { again = true; return; }
    loading = true;
    try {
      do {
        again = false;
        const began = performance.now();
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) throw new Error(String(answer.status));
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        main.dataset.now = next.getElementById("main").dataset.now;
        clock();
        for (const section of next.querySelectorAll("[data-live]")) {
          const now = document.getElementById(section.id);
          if (now && now.outerHTML !== section.outerHTML) replace(now, document.importNode(section, true));
        }
        document.title = next.title;
        say("This page updates itself.");
        // The longer the answer takes, the less often the server is asked.
        await new Promise((done) => setTimeout(done, Math.min(30000, 10 * (performance.now() - began))));
      } while (again);
    } catch (_) {
      say("This page could not update itself; it tries again.");
      setTimeout(load, 5000);
    } finally {
      loading = false;
    }
  };

  const connect = () => {
    const events = new EventSource("api/v1/events");
    events.addEventListener("fleet", load); // also for the first event: the page may be older than the stream
    events.onerror = () => {
      say("This page does not update itself at the moment; it tries again.");
      if (events.readyState === EventSource.CLOSED) setTimeout(connect, 10000);
    };
  };

  clock();
  setInterval(tick, 1000);
  connect();
})();
