/**
 * graphile-worker on Node.js, set as its page on performance says: a local queue of 500 jobs, and
 * completions that are sent together. Its tables are durable and a finished job is deleted.
 *
 * The same protocol as `protocol.py`, without failing jobs: it waits at least two seconds before it
 * tries one again, and has no option for that.
 */

import fs from "node:fs";
import { createRequire } from "node:module";

// Packages are looked for beside a module, and this one's are kept with the other environments.
const require = createRequire(new URL("../.environments/graphile_worker/", import.meta.url));
const { Logger, makeWorkerUtils, run } = require("graphile-worker");

const TASK = "bench";
const BULK = 10_000;
const CONNECTIONS = 10;

const quiet = new Logger(() => () => {});

const DEFAULTS = {
  records: "",
  concurrency: 10,
  count: 0,
  first: 0,
  step: 1,
  how: "one",
  callers: 100,
  pause: 0,
  delay: 0,
  payload: 0,
  priorities: 1,
};

function preset(order) {
  return {
    worker: {
      connectionString: asUrl(order.dsn),
      maxPoolSize: CONNECTIONS,
      concurrentJobs: order.concurrency,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      logger: quiet,
    },
  };
}

async function prepare(order) {
  const utils = await makeWorkerUtils({ preset: preset(order) });
  await utils.migrate();
  await utils.release();
}

async function enqueue(order) {
  const utils = await makeWorkerUtils({ preset: preset(order) });
  await utils.withPgClient((client) => client.query("select 1"));
  const began = now();
  await inserting[order.how](utils, order, jobs(order));
  const seconds = Number(now() - began) / 1e9;
  await utils.release();
  say({ seconds, count: order.count });
}

const inserting = {
  async one(utils, order, many) {
    for (const args of many) await utils.addJob(TASK, args, spec(order, args));
  },
  async concurrent(utils, order, many) {
    const shared = many[Symbol.iterator]();
    const caller = async () => {
      for (const args of shared) await utils.addJob(TASK, args, spec(order, args));
    };
    await Promise.all(Array.from({ length: order.callers }, caller));
  },
  async bulk(utils, order, many) {
    for (let start = 0; start < many.length; start += BULK) {
      const specs = many
        .slice(start, start + BULK)
        .map((args) => ({ identifier: TASK, payload: args, ...spec(order, args) }));
      await utils.addJobs(specs);
    }
  },
  async paced(utils, order, many) {
    const begin = now();
    for (const [index, args] of many.entries()) {
      const wait = Number(begin - now()) / 1e6 + index * order.pause * 1e3;
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      const share = 0.05 + (0.95 * ((index * 37) % many.length)) / many.length;
      const delay = order.delay * share;
      const options = spec(order, args);
      if (delay) options.runAt = new Date(Date.now() + delay * 1e3);
      // Nanoseconds since boot may not fit a number exactly; as text they stay as they are.
      args.at = String(now() + BigInt(Math.round(delay * 1e9)));
      await utils.addJob(TASK, args, options);
    }
  },
};

async function work(order) {
  const file = fs.openSync(order.records, "a");
  const record = async (args) => {
    fs.writeSync(file, `${args.n} ${now()} ${args.at ?? 0}\n`);
  };
  const options = preset(order);
  const runner = await run({
    preset: options,
    taskList: { [TASK]: record },
    noHandleSignals: true,
    noPreset: true,
  });
  const stopped = new Promise((resolve) => process.on("SIGTERM", resolve));
  say({ ready: true });
  await stopped;
  await runner.stop();
  process.exit(0);
}

function jobs(order) {
  const text = order.payload ? { text: "x".repeat(order.payload) } : {};
  return Array.from({ length: order.count }, (_, index) => ({
    n: order.first + order.step * index,
    ...text,
  }));
}

function spec(order, args) {
  return order.priorities > 1 ? { priority: args.n % order.priorities } : {};
}

/** `dsn` may be a URL already, or `host=… dbname=…` as libpq has it. */
function asUrl(dsn) {
  if (dsn.includes("://")) return dsn;
  const parts = Object.fromEntries(dsn.match(/\w+=('[^']*'|\S+)/g).map(part));
  const { dbname = "", ...others } = parts;
  return `postgresql:///${encodeURIComponent(dbname)}?${new URLSearchParams(others)}`;
}

function part(text) {
  const at = text.indexOf("=");
  return [text.slice(0, at), text.slice(at + 1).replace(/^'|'$/g, "")];
}

/** CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share. */
function now() {
  return process.hrtime.bigint();
}

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

const [command, text] = process.argv.slice(2);
await { prepare, enqueue, work }[command]({ ...DEFAULTS, ...JSON.parse(text) });
