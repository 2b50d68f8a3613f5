// What the page does beyond what it does without this script: it counts down, shows times in the reader's time zone,
// and puts in what has changed. Every decision is an ordinary form.
"use strict";

(() => {
  const root = document.documentElement;
  // The clock of the reader may be wrong: the page says what time it was made at.
  const skew = Number(root.dataset.now) * 1000 - Date.now();
  const now = () => Math.floor((Date.now() + skew) / 1000);

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  // The same words as on the server: at most two units, the second just below the first.
  const span = (seconds) => {
    const first = units.findIndex(([size]) => seconds >= size);
    if (first < 0) return "0 s";
    let rest = seconds;
    const parts = [];
    for (const [size, name] of units.slice(first, first + 2)) {
      const count = Math.floor(rest / size);
      rest %= size;
      if (count > 0) parts.push(`${count} ${name}`);
    }
    return parts.join(" ");
  };

  const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const exactClock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const localise = (part) => {
    for (const time of part.querySelectorAll("time[data-local]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.title = time.textContent;
      time.textContent = (time.dataset.local === "exact" ? exactClock : clock).format(at);
      time.removeAttribute("data-local");
    }
  };

  let stale = false;
  const count = () => {
    for (const timer of document.querySelectorAll("[data-expires]")) {
      const left = Number(timer.dataset.expires) - now();
      const text = left > 0 ? span(left) : "0 s";
      if (timer.textContent !== text) timer.textContent = text;
      timer.closest(".left")?.classList.toggle("soon", left < 60);
      if (left < 0 && !stale) {
        stale = true;
        setTimeout(refresh, 1500);
      }
    }
  };

  const said = document.getElementById("said");
  const say = (text) => {
    if (said && text) said.textContent = text;
  };

  // Somebody who is writing a reason keeps what is written.
  const isInUse = (part) =>
    [...part.querySelectorAll("textarea")].some((field) => field.value !== "" || field === document.activeElement);

  const exchange = (fresh) => {
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
      if (!other || part.dataset.version === other.dataset.version) continue;
      if (isInUse(part) && other.querySelector("textarea")) continue;
      const hadFocus = part.contains(document.activeElement);
      part.replaceWith(document.adoptNode(other));
      localise(other);
      if (hadFocus) document.getElementById("main")?.focus();
    }
    const news = fresh.documentElement.dataset.news;
    if (news && news !== root.dataset.news) {
      root.dataset.news = news;
      document.title = fresh.title;
      say(news);
    }
  };

  let isRefreshing = false;
  const refresh = () => {
    if (isRefreshing || !root.dataset.events) return;
    isRefreshing = true;
    const request = new XMLHttpRequest();
    // The browser parses the answer, and runs nothing in it.
    request.open("GET", location.href);
    request.responseType = "document";
    request.onloadend = () => {
      isRefreshing = false;
      stale = false;
      if (request.status === 200 && request.response) {
        exchange(request.response);
      } else if (request.status === 401) {
        location.reload();
      }
    };
    request.send();
  };

  localise(document);
  count();
  setInterval(count, 1000);

  if (root.dataset.events && "EventSource" in window) {
    let source = null;
    const listen = () => {
      source = new EventSource(root.dataset.events);
      source.addEventListener("changed", refresh);
      source.addEventListener("signed-out", () => {
        source.close();
        location.reload();
      });
    };
    // A page that nobody looks at holds no connection: browsers open only a few to one host, for all tabs together.
    document.addEventListener("visibilitychange", () => {
      source?.close();
      if (document.visibilityState === "visible") {
        refresh();
        listen();
      }
    });
    if (document.visibilityState === "visible") listen();
  }
})();
