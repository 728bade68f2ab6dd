"use strict";
// Lets readers explore the figures of a page. Without it they are still there as pictures.
(() => {
  const holder = document.getElementById("data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const AXES = ["evaluations", "calls", "tokens", "money", "seconds"];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const show = (value) => (value === null || value === undefined ? "-" : String(Number(value.toPrecision(10))));
  const make = (tag, facts = {}, ...children) => {
    const element = document.createElement(tag);
    Object.assign(element, facts);
    element.append(...children);
    return element;
  };
  const figure = (name) => document.querySelector(`figure[data-figure="${name}"]`);
  const choice = (label, names, onchange) => {
    const select = make("select", { onchange }, ...names.map((name) => make("option", { value: name, textContent: name })));
    return [make("label", {}, `${label} `, select), select];
  };
  const controlsOf = (name) => {
    const found = figure(name);
    const controls = make("div", { className: "controls" });
    found.prepend(controls);
    return [found.querySelector(".drawing"), controls];
  };
  const linkTo = (key) => {
    if (data.link) location.href = data.link.replace("{key}", key);
    else if (document.getElementById(`attempt-${key}`)) location.hash = `attempt-${key}`;
  };

  // The champion's objective, and every evaluated attempt, against what was spent.
  function curve() {
    if (!figure("curve")) return () => {};
    const [drawing, controls] = controlsOf("curve");
    const used = AXES.filter((_, at) => data.points.some((point) => point[1 + at] > 0));
    let plot = null;
    const [axisLabel, axis] = choice("against", used, draw);
    const known = Object.entries(data.references);
    const [scaleLabel, scale] = choice("show", ["objective", ...known.map(([name]) => `distance to ${name} (log)`)], draw);
    const attempts = make("input", { type: "checkbox", checked: true, onchange: draw });
    controls.append(axisLabel, scaleLabel, make("label", {}, attempts, " attempts"));
    function draw() {
      const at = 1 + AXES.indexOf(axis.value);
      const target = scale.selectedIndex ? known[scale.selectedIndex - 1][1] : null;
      const sign = data.direction === "maximize" ? 1 : -1;
      // A logarithm has no zero: what has reached the target is left out.
      const view = (value) => {
        if (value === null) return null;
        if (target === null) return value;
        const gap = sign * (target - value);
        return gap > 0 ? gap : null;
      };
      const rows = new Map();
      const put = (x, column, y) => {
        if (!rows.has(x)) rows.set(x, [null, null]);
        rows.get(x)[column] = y;
      };
      let last = null;
      for (const point of data.points) {
        const y = view(point[0]);
        if (last !== null && y !== null) put(point[at] - 1e-9, 0, last);
        put(point[at], 0, y);
        last = y;
      }
      if (axis.value === "evaluations" && attempts.checked) {
        for (const row of data.rows) if (row[1] !== null) put(row[0], 1, view(row[1]));
      }
      const xs = [...rows.keys()].sort((a, b) => a - b);
      const columns = [xs, xs.map((x) => rows.get(x)[0]), xs.map((x) => rows.get(x)[1])];
      const levels = target === null ? near(known) : [];
      for (const [, value] of levels) columns.push(xs.map(() => value));
      const ink = { stroke: style("--soft"), grid: { stroke: style("--rule"), width: 1 }, ticks: { stroke: style("--rule") } };
      const number = (u, value) => show(value);
      const options = {
        width: Math.max(280, Math.min(drawing.clientWidth || 720, 960)),
        height: 320,
        scales: { x: { time: false }, y: { distr: target === null ? 1 : 3, range: target === null ? range : undefined } },
        axes: [{ ...ink, label: axis.value }, { ...ink, size: 90 }],
        series: [
          { label: axis.value, value: number },
          { label: "champion", stroke: style("--accent"), width: 2, spanGaps: true, value: number, points: { show: false } },
          { label: "attempt", stroke: style("--c4"), width: 0, paths: () => null, points: { show: true, size: 4 }, value: number },
          ...levels.map(([name]) => ({ label: name, stroke: style("--soft"), dash: [5, 4], value: number, points: { show: false } })),
        ],
      };
      plot?.destroy();
      drawing.replaceChildren();
      plot = new uPlot(options, columns, drawing);
    }
    // Attempts far below the champions would press the curve into a line.
    function range(u, low, high) {
      const best = data.points.map((point) => point[0]).concat(near(known).map(([, value]) => value));
      const [from, to] = [Math.min(...best), Math.max(...best)];
      const room = (to - from || Math.abs(to) || 1) * 0.08;
      return [from - room, to + room];
    }
    function near(references) {
      const values = data.points.map((point) => point[0]);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const room = 3 * (high - low);
      return references.filter(([, value]) => low - room <= value && value <= high + room);
    }
    addEventListener("resize", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    draw();
    return draw;
  }

  // The best program in each cell of two measures, after any generation.
  function archive() {
    if (!figure("archive") || !data.axes.length) return () => {};
    const [drawing, controls] = controlsOf("archive");
    const names = data.axes.map((axis) => axis.name);
    const [acrossLabel, across] = choice("across", names, draw);
    const [upLabel, up] = choice("up", names, draw);
    up.selectedIndex = Math.min(1, names.length - 1);
    const islands = data.frames.length ? data.frames[0][1].map((_, at) => `island ${at}`) : [];
    const [islandLabel, island] = choice("of", ["all islands", ...islands], draw);
    const time = make("input", { type: "range", min: 0 });
    const when = make("output");
    controls.append(acrossLabel, upLabel, islandLabel, make("label", {}, "generation "), time, when);
    let follows = true;
    time.addEventListener("input", () => {
      follows = Number(time.value) === data.frames.length - 1;
      draw();
    });
    function draw() {
      time.max = data.frames.length - 1;
      if (follows) time.value = time.max;
      const shown = Number(time.value);
      when.textContent = data.frames.length ? String(data.frames[shown][0]) : "";
      const alive = islands.map(() => new Set());
      data.frames.slice(0, shown + 1).forEach(([, added, removed]) => {
        added.forEach((places, at) => places.forEach((place) => alive[at].add(place)));
        removed.forEach((places, at) => places.forEach((place) => alive[at].delete(place)));
      });
      const wanted = island.selectedIndex ? [alive[island.selectedIndex - 1]] : alive;
      const x = across.selectedIndex, y = names.length > 1 ? up.selectedIndex : -1;
      const sign = data.direction === "maximize" ? 1 : -1;
      const best = new Map();
      for (const set of wanted) for (const place of set) {
        const elite = data.elites[place];
        const cell = `${bin(x, elite[2 + x])},${y < 0 || y === x ? 0 : bin(y, elite[2 + y])}`;
        const known = best.get(cell);
        if (!known || sign * elite[1] > sign * known[1]) best.set(cell, elite);
      }
      paint(best, x, y === x ? -1 : y, sign);
    }
    function bin(at, value) {
      const axis = data.axes[at];
      let share = (value - axis.low) / (axis.high - axis.low);
      if (axis.log) share = value <= axis.low ? 0 : Math.log(value / axis.low) / Math.log(axis.high / axis.low);
      return Math.min(axis.cells - 1, Math.max(0, Math.floor(share * axis.cells)));
    }
    function paint(best, x, y, sign) {
      const columns = data.axes[x].cells, rows = y < 0 ? 1 : data.axes[y].cells;
      const size = 26, left = 90, top = 30;
      const svg = (tag, facts, text) => {
        const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
        Object.entries(facts).forEach(([name, value]) => element.setAttribute(name, value));
        if (text !== undefined) element.textContent = text;
        return element;
      };
      const root = svg("svg", { viewBox: `0 0 ${left + columns * size + 60} ${top + rows * size + 44}`, role: "img" });
      root.append(svg("rect", { class: "empty", x: left, y: top, width: columns * size, height: rows * size }));
      const ranked = [...best.entries()].sort((a, b) => sign * (a[1][1] - b[1][1]));
      ranked.forEach(([cell, elite], rank) => {
        const [column, row] = cell.split(",").map(Number);
        const rect = svg("rect", {
          class: rank === ranked.length - 1 ? "cell mark" : "cell", "data-key": elite[0],
          x: left + column * size, y: top + (rows - 1 - row) * size, width: size - 1, height: size - 1,
          "fill-opacity": 0.15 + (0.85 * (rank + 1)) / ranked.length,
        });
        rect.append(svg("title", {}, `${elite[0]}: ${show(elite[1])}`));
        rect.addEventListener("click", () => linkTo(elite[0]));
        root.append(rect);
      });
      const bottom = top + rows * size;
      const text = (at, down, words, anchor = "start") => root.append(svg("text", { x: at, y: down, "text-anchor": anchor }, words));
      text(left, bottom + 16, show(data.axes[x].low));
      text(left + columns * size, bottom + 16, show(data.axes[x].high), "end");
      text(left + (columns * size) / 2, bottom + 32, data.axes[x].name, "middle");
      if (y >= 0) {
        text(4, 16, data.axes[y].name);
        text(left - 6, top + 12, show(data.axes[y].high), "end");
        text(left - 6, bottom, show(data.axes[y].low), "end");
      }
      drawing.replaceChildren(root);
    }
    draw();
    return draw;
  }

  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", openTarget);
  openTarget();
  const redraw = [curve(), archive()];

  // A page of a server follows the run.
  if (!data.events) return;
  const connection = document.getElementById("connection");
  const source = new EventSource(data.events);
  source.onopen = () => { connection.textContent = "live"; };
  source.onerror = () => { connection.textContent = "disconnected: is `evolve view` still running?"; };
  // Large sections are fetched once in a while, and only where somebody can see them.
  const waiting = new Set();
  const fetchStale = async () => {
    for (const anchor of waiting) {
      const old = document.getElementById(anchor);
      if (!old) { location.reload(); return; }
      const place = old.getBoundingClientRect();
      if (place.bottom < 0 || place.top > innerHeight) continue;
      waiting.delete(anchor);
      const answer = await fetch(`${location.pathname}/sections/${anchor}`);
      if (answer.ok) replace(anchor, await answer.text());
    }
  };
  setInterval(fetchStale, 1000);
  addEventListener("scroll", fetchStale);
  // A figure that a script draws, or that readers look into, stays.
  function replace(anchor, html) {
    const old = document.getElementById(anchor);
    if (!old) location.reload();
    else if (!("drawn" in old.dataset) && !old.querySelector("details[open]")) old.outerHTML = html;
  }
  source.onmessage = (message) => {
    const update = JSON.parse(message.data);
    const { data: news, sections, stale, ended } = update;
    if (ended) {
      source.close();
      connection.textContent = ended;
      return;
    }
    if (news) {
      for (const name of ["rows", "elites", "frames"]) data[name].splice(news.first[name], Infinity, ...news[name]);
      data.points = news.points;
    }
    Object.entries(sections).forEach(([anchor, html]) => replace(anchor, html));
    (stale || []).forEach((anchor) => waiting.add(anchor));
    if (news) redraw.forEach((draw) => draw());
  };
})();
