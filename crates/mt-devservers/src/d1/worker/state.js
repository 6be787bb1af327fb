// What all requests share: they, and the Durable Objects, live in one isolate. The registry object
// keeps what has to survive the process.

/** The databases by uuid, once they were read from the registry. */
export const site = { databases: undefined, files: new Map(), held: [], heldSize: 0, last: 0 };

/** What is on its way from one object to another. */
const parcels = new Map();

/** Gives a value away; who gets the key takes it. A call between objects carries 32 MiB at most. */
export function give(value) {
  const key = crypto.randomUUID();
  parcels.set(key, value);
  return key;
}

export function take(key) {
  const value = parcels.get(key);
  parcels.delete(key);
  return value;
}

/** How much of copies that nobody asked for is held: of databases with so many bytes together. */
const HELD_LIMIT = 1 << 26;

/** A time in milliseconds that was never given out before, and grows. */
export function moment() {
  site.last = Math.max(site.last + 1, Date.now());
  return site.last;
}

/**
 * A bookmark of the service's shape. The time comes first, so that later ones are greater as
 * strings, also over a restart.
 */
export function bookmarkOf(time) {
  const [high, low] = [Math.floor(time / 2 ** 32), time % 2 ** 32];
  const hex = (number) => number.toString(16).padStart(8, "0");
  return `${hex(high)}-${hex(low)}-00000000-${crypto.randomUUID().replaceAll("-", "")}`;
}

/** The present version of a database begins. What it held before is in its history. */
export function begin(entry) {
  const at = moment();
  entry.version = { at, bookmark: bookmarkOf(at), copy: undefined, isKept: false };
}

/**
 * What is known of a database: `kept` are the versions of which the registry holds a copy. What
 * came after each of them is not known after a restart.
 */
export function entryOf(record, kept = []) {
  const gap = ({ at }) => ({ at: at + 1, copy: undefined, isKept: false });
  const history = kept.flatMap((one) => [{ ...one, copy: undefined, isKept: true }, gap(one)]);
  const entry = { ...record, isGone: false, job: undefined, finished: undefined, history };
  begin(entry);
  return entry;
}

/** Holds the copy of a version for a while; the oldest copies go. */
export function hold(version, size) {
  site.held.push({ version, size });
  site.heldSize += size;
  while (site.heldSize > HELD_LIMIT) {
    const oldest = site.held.shift();
    site.heldSize -= oldest.size;
    oldest.version.copy = undefined;
  }
}

export const registry = (env) => env.REGISTRY.get(env.REGISTRY.idFromName("registry"));

/** Each restore puts the data into a new object. */
export function objectOf(env, entry) {
  return env.DATABASE.get(env.DATABASE.idFromName(`${entry.uuid}/${entry.generation}`));
}

/** The databases by uuid. */
export async function databases(env) {
  if (site.databases === undefined) {
    const records = await registry(env).all();
    // Another request may have been faster.
    site.databases ??= new Map(
      records.map(({ record, kept }) => [record.uuid, entryOf(record, kept)]),
    );
  }
  return site.databases;
}
