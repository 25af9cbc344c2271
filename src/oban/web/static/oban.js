"use strict";
(() => {
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const root = document.body.dataset.root;
  const csrf = $("meta[name=csrf]").content;
  const kept = {
    get(name) { try { return localStorage.getItem(`oban-${name}`); } catch { return null; } },
    set(name, value) { try { localStorage.setItem(`oban-${name}`, value); } catch { /* keeps nothing */ } },
  };

  // Every change carries the token of this page.
  document.body.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = csrf;
  });

  function note(text, kind = "done") {
    const p = document.createElement("p");
    p.className = `note note-${kind}`;
    if (kind === "error") p.setAttribute("role", "alert");
    p.append(text);
    const close = document.createElement("button");
    close.className = "icon close"; close.type = "button"; close.textContent = "×";
    close.setAttribute("aria-label", "Close");
    p.append(close);
    $("#notes").append(p);
    tidy();
  }
  function tidy() {
    for (const each of $$("#notes .note:not([data-timed])")) {
      each.dataset.timed = "";
      setTimeout(() => each.remove(), each.classList.contains("note-error") ? 12000 : 5000);
    }
    for (const each of $$("#notes .note").slice(0, -5)) each.remove();
  }

  // Looking again: the server says when; where its events do not come, this page does.
  const every = $("#every");
  let source = null, timer = null;
  const look = () => { if (!document.hidden) htmx.trigger(document.body, "look"); };
  function watch() {
    if (source) source.close();
    clearInterval(timer);
    source = null;
    const dot = $("#live"), seconds = Number(every.value);
    dot.className = "dot";
    dot.title = "Does not look again by itself";
    if (!seconds) return;
    const poll = () => {
      clearInterval(timer);
      timer = setInterval(look, seconds * 1000);
      dot.className = "dot polls"; dot.title = "Asks again by itself: no events come from the server";
    };
    if (!window.EventSource) return poll();
    source = new EventSource(`${root}/live?every=${seconds}`);
    source.addEventListener("open", () => {
      clearInterval(timer);
      dot.className = "dot on"; dot.title = "Live";
    });
    source.addEventListener("look", look);
    source.addEventListener("error", poll);
  }
  const wanted = kept.get("every") ?? $("meta[name=refresh-every]").content.replace(/\.0$/, "");
  if (![...every.options].some((each) => each.value === wanted)) {
    every.add(new Option(`${wanted} s`, wanted));
  }
  every.value = wanted;
  every.addEventListener("change", () => { kept.set("every", every.value); watch(); });
  addEventListener("load", watch);
  addEventListener("pagehide", () => { if (source) source.close(); });
  addEventListener("pageshow", (event) => { if (event.persisted) watch(); });
  document.addEventListener("visibilitychange", look);

  function turn() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    kept.set("theme", next);
    for (const each of $$(".chart")) draw(each);
  }
  $("#theme").addEventListener("click", turn);
  $("#help").addEventListener("click", () => $("#keys").showModal());

  // Moments are shown in words; their own time stands behind them, here and there.
  function localize() {
    for (const each of $$("time[datetime]:not([data-local])")) {
      each.dataset.local = "";
      const at = new Date(each.dateTime);
      if (!isNaN(at)) each.title = `${at.toLocaleString()} here\n${each.title || each.textContent}`;
    }
  }
  addEventListener("load", localize);
  document.body.addEventListener("htmx:afterSwap", localize);

  // What is selected stays so while the list is looked at again.
  const selected = new Set();
  function select() {
    const boxes = $$(".one");
    for (const each of boxes) each.checked = selected.has(each.value);
    const all = $("#all"), match = $("#every-match");
    if (!all) return;
    all.checked = boxes.length > 0 && boxes.every((each) => each.checked);
    all.indeterminate = !all.checked && boxes.some((each) => each.checked);
    $("#selected").textContent = selected.size ? `${selected.size} selected` : "select";
    for (const each of $$(".act")) each.disabled = !(selected.size || (match && match.checked));
  }
  let matching = false, focused = null;
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const { requestConfig, target } = event.detail;
    // A button that waits for its answer stays: without it nothing would say what came of it.
    if (requestConfig.verb === "get" && target.querySelector(".htmx-request[hx-post]")) event.detail.shouldSwap = false;
    focused = document.activeElement?.closest?.("tr[data-id]")?.dataset.id ?? null;
  });
  document.body.addEventListener("htmx:afterSwap", () => {
    const match = $("#every-match");
    if (match && !match.disabled) match.checked = matching;
    select();
    tidy();
    if (focused) $(`tr[data-id="${CSS.escape(focused)}"]`)?.focus();
  });
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches(".one")) { box.checked ? selected.add(box.value) : selected.delete(box.value); select(); }
    if (box.id === "all") {
      for (const each of $$(".one")) box.checked ? selected.add(each.value) : selected.delete(each.value);
      select();
    }
    if (box.id === "every-match") { matching = box.checked; select(); }
    if (box.matches(".chart-choice")) { kept.set(`chart-${box.dataset.name}`, box.value); charts(); }
  });

  // Asking before what cannot be undone.
  function sure(title, text, button) {
    const dialog = $("#sure");
    $("#sure-title").textContent = title;
    $("#sure-text").textContent = text;
    $("#sure-progress").hidden = true;
    $("#sure-yes").textContent = button;
    $("#sure-yes").disabled = false;
    $("#sure-no").textContent = "Leave it";
    dialog.showModal();
    $("#sure-no").focus();
    return new Promise((resolve) => {
      const end = (answer) => { $("#sure-yes").onclick = $("#sure-no").onclick = dialog.oncancel = null; resolve(answer); };
      $("#sure-yes").onclick = () => end(true);
      $("#sure-no").onclick = () => { dialog.close(); end(false); };
      dialog.oncancel = () => end(false);
    });
  }
  async function post(path, body) {
    const answer = await fetch(`${root}${path}`, {
      method: "POST", body: JSON.stringify(body),
      headers: { "X-CSRF-Token": csrf, "Content-Type": "application/json" },
    });
    return good(answer);
  }
  async function good(answer) {
    if (answer.ok) return answer;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html"), told = $(".note", page) ?? page.body;
    throw new Error(told.textContent.replace("×", "").trim() || answer.statusText);
  }
  const number = (value) => value.toLocaleString("en");
  const jobs = (value) => `${number(value)} job${value === 1 ? "" : "s"}`;
  async function act(name) {
    const label = name[0].toUpperCase() + name.slice(1);
    try {
      if (!$("#every-match")?.checked) {
        const ids = [...selected].map(Number);
        if (name === "delete" && !(await sure(`Delete ${jobs(ids.length)}?`, "They are gone for good; those that run stay.", label))) return;
        const told = await (await post(`/bulk/${name}`, { ids })).json();
        $("#sure").close();
        note(`${number(told.done)} of ${jobs(told.of)} ${told.was}.`);
      } else {
        const found = $("#found").dataset, search = { q: found.q, state: found.state };
        const query = new URLSearchParams(search);
        const count = await (await good(await fetch(`${root}/count?${query}`, { headers: { "HX-Request": "true" } }))).json();
        const many = count.count === null ? "very many jobs" : `${count.is_more ? "more than " : ""}${jobs(count.count)}`;
        const those = [found.state && `in the state ${found.state}`, found.q && `that match “${found.q}”`].filter(Boolean).join(" ") || "of all states";
        if (!(await sure(`${label} ${many}?`, `All ${those}, however many pages they are on. Those that it does not fit stay as they are, and so do those that come after this count.`, label))) return;
        await actOnAll(name, { ...search, up_to: count.up_to }, count.count);
      }
      selected.clear(); matching = false;
    } catch (error) {
      $("#sure").close();
      note(error.message, "error");
    }
    look();
  }
  async function actOnAll(name, search, total) {
    const bar = $("#sure-progress"), dialog = $("#sure"), stop = new AbortController();
    bar.hidden = false;
    if (total) bar.max = total; else bar.removeAttribute("value");
    $("#sure-yes").disabled = true;
    $("#sure-no").textContent = "Stop";
    const answer = await post(`/bulk/${name}`, search);
    const reader = answer.body.pipeThrough(new TextDecoderStream(), { signal: stop.signal }).getReader();
    $("#sure-no").onclick = () => { reader.cancel(); };
    dialog.oncancel = (event) => { event.preventDefault(); reader.cancel(); };
    let text = "", told = { done: 0, of: 0, was: "" };
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      const lines = text.split("\n");
      text = lines.pop();
      for (const line of lines) told = JSON.parse(line);
      if (total) bar.value = told.of;
      $("#sure-text").textContent = `${number(told.done)} of ${jobs(told.of)} ${told.was} so far.`;
    }
    dialog.oncancel = null;
    dialog.close();
    if (told.error) note(`${told.error}; ${jobs(told.done)} ${told.was} before that.`, "error");
    else note(`${jobs(told.done)} ${told.was}${told.is_over ? "" : ", then stopped"}.`);
  }

  document.addEventListener("click", async (event) => {
    const target = event.target.closest("button, a");
    if (!target) return;
    if (target.matches(".note .close")) target.closest(".note").remove();
    if (target.matches(".act")) act(target.dataset.act);
    if (target.matches("[data-sure]")) {
      const answer = await sure(target.dataset.sure, target.dataset.text, target.textContent.trim());
      $("#sure").close();
      if (answer) htmx.trigger(target, "sure");
    }
    if (target.matches("[data-open]")) open(target);
    if (target.matches("[data-close]")) target.closest("dialog").close();
    if (target.matches(".copy")) {
      const text = $("pre", target.parentElement).textContent;
      try { await navigator.clipboard.writeText(text); note("Copied."); }
      catch { note("The browser does not let this page copy; select the text instead.", "error"); }
    }
  });
  function open(button) {
    const dialog = document.getElementById(button.dataset.open);
    const form = $("form", dialog), queue = button.dataset.queue;
    if (queue) {
      for (const each of $$("[data-fill=queue]", dialog)) each.textContent = queue;
      form.setAttribute("hx-post", form.dataset.post.replace("{queue}", encodeURIComponent(queue)));
      form.reset();
      htmx.process(form);
    }
    dialog.showModal();
  }
  document.body.addEventListener("htmx:afterRequest", (event) => {
    const dialog = event.target.closest?.("dialog");
    if (dialog && event.detail.successful) dialog.close();
  });
  document.body.addEventListener("htmx:sendError", () => {
    if (!$("#notes .note-away")) { note("The server does not answer.", "error"); $("#notes .note:last-child").classList.add("note-away"); }
  });

  // What the word that is typed may become.
  const search = $("#q");
  let offered = null;
  search?.addEventListener("input", () => {
    clearTimeout(offered);
    offered = setTimeout(async () => {
      const words = search.value.split(" "), word = words.pop();
      const before = words.length ? `${words.join(" ")} ` : "";
      const answer = await fetch(`${root}/complete?word=${encodeURIComponent(word)}`);
      if (!answer.ok) return;
      $("#offers").replaceChildren(...(await answer.json()).map((each) => new Option(before + each)));
    }, 150);
  });

  // Charts
  const FINAL = ["completed", "cancelled", "discarded"];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const PALETTE = ["#5b8def", "#e08a3c", "#43a877", "#b56fd6", "#d65a72", "#4fb3c8", "#a39132", "#8d8f98", "#7a6ff0", "#c86f4a"];
  const span = (seconds) => seconds == null ? "" : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : seconds < 120 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`;
  const plots = new Map();
  function choice(name) { return $(`.chart-choice[data-name=${name}]`)?.value; }
  function draw(box) {
    const told = box.told;
    plots.get(box)?.destroy();
    plots.delete(box);
    if (!told || !told.series.length || told.at.length < 2) {
      box.innerHTML = '<p class="none">Nothing has ended in this span yet.</p>';
      return;
    }
    box.replaceChildren();
    const isTime = told.measure !== "count";
    const axis = { stroke: color("quiet"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const known = ["available", "executing", "scheduled", "retryable", "suspended", "completed", "cancelled", "discarded"];
    const plot = new uPlot({
      width: box.clientWidth, height: 190, legend: { live: true }, cursor: { y: false, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, isTime ? 0.001 : 1)] } },
      axes: [axis, { ...axis, size: 62, values: (_, values) => values.map(isTime ? span : number) }],
      series: [{ label: "at" }, ...told.series.map((each, at) => ({
        label: each.name, width: 1.6, spanGaps: isTime, points: { show: told.at.length < 40, size: 4 },
        stroke: known.includes(each.name) ? color(each.name) : PALETTE[at % PALETTE.length],
        value: (_, value) => value == null ? "" : isTime ? span(value) : number(value),
      }))],
    }, [told.at, ...told.series.map((each) => each.values)], box);
    plots.set(box, plot);
  }
  function ended() {
    const state = $("#found")?.dataset.state;
    return !state ? "Jobs ended" : FINAL.includes(state) ? `Jobs ${state}` : "Jobs ended, in any state";
  }
  async function charts() {
    for (const box of $$(".chart")) {
      const query = new URLSearchParams({
        by: box.dataset.by ?? choice("by") ?? "state", measure: box.dataset.measure ?? choice("measure") ?? "count",
        quantile: choice("quantile") ?? "p95", since: choice("since") ?? "3600",
      });
      // Only what has ended is counted: of other states the chart shows all that did.
      const state = $("#found")?.dataset.state;
      if (state && (FINAL.includes(state) || query.get("measure") !== "count")) query.set("state", state);
      try {
        const answer = await fetch(`${box.dataset.src}?${query}`);
        if (!answer.ok) continue;
        box.told = await answer.json();
        draw(box);
      } catch { /* it is asked again */ }
    }
    const title = $("#chart-title"), measure = choice("measure");
    if (title) title.textContent = { count: ended(), exec: "Execution time", wait: "Wait time" }[measure];
    for (const each of $$(".quantile")) each.hidden = measure === "count";
  }
  if ($(".chart")) {
    for (const each of $$(".chart-choice")) {
      const last = kept.get(`chart-${each.dataset.name}`);
      if (last && [...each.options].some((option) => option.value === last)) each.value = last;
    }
    addEventListener("load", charts);
    let drawn = 0;
    document.body.addEventListener("look", () => { if (Date.now() - drawn > 4900) { drawn = Date.now(); charts(); } });
    addEventListener("resize", () => { for (const [box, plot] of plots) plot.setSize({ width: box.clientWidth, height: 190 }); });
  }

  // Keys
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if ($("dialog[open]")) return;
    const rows = $$("main tbody tr[tabindex]"), at = rows.indexOf(document.activeElement?.closest("tr"));
    const page = $(`.top nav a[data-key="${CSS.escape(event.key)}"]`);
    const keys = {
      "/": () => search ? search.focus() : location.assign(`${root}/jobs`),
      "?": () => $("#keys").showModal(),
      r: look,
      p: () => { const on = every.value !== "0"; if (on) kept.set("every-before", every.value); every.value = on ? "0" : kept.get("every-before") ?? "2"; kept.set("every", every.value); watch(); },
      t: turn,
      ArrowDown: () => rows[Math.min(at + 1, rows.length - 1)]?.focus(),
      ArrowUp: () => rows[Math.max(at - 1, 0)]?.focus(),
      Enter: () => event.target.matches("tr") && $("a", event.target)?.click(),
      x: () => $(".one", rows[at] ?? document.createElement("i"))?.click(),
    };
    if (page) page.click();
    else if (keys[event.key]) keys[event.key]();
    else return;
    if (event.key !== "Enter") event.preventDefault();
  });
})();
