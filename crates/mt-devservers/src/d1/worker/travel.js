// Time travel: an emulation, by whole copies. A copy is kept for good of each version whose
// bookmark was told; of the versions before, a number of copies is held until the process ends.

import { recordOf } from "./databases.js";
import { checkIdle } from "./jobs.js";
import { done, malformed, sqlRefused } from "./reply.js";
import { begin, give, objectOf, registry, take } from "./state.js";

export async function bookmark({ url, env, entry }) {
  checkIdle(env, entry);
  const version = await versionAt(env, entry, timeOf(url));
  return done({ bookmark: version.bookmark });
}

export async function restore({ url, env, entry }) {
  checkIdle(env, entry);
  const [wanted, time] = [url.searchParams.get("bookmark"), timeOf(url)];
  if ((wanted === null) === (time === undefined)) {
    throw malformed("Invalid property: one of bookmark and timestamp is needed");
  }
  const previous = await promise(env, entry, entry.version);
  const target = wanted ?? (await versionAt(env, entry, time)).bookmark;
  const copy = take(await registry(env).copy(entry.uuid, target));
  if (copy === undefined) throw sqlRefused(`The bookmark ${target} is not known`);
  await replace(env, entry, copy);
  const message = `Database restored to bookmark ${target}`;
  return done({ bookmark: entry.version.bookmark, previous_bookmark: previous.bookmark, message });
}

/** Puts a copy in the place of what there is. */
async function replace(env, entry, copy) {
  const old = objectOf(env, entry);
  const next = { ...entry, generation: entry.generation + 1 };
  await objectOf(env, next).load(give(copy));
  entry.generation = next.generation;
  entry.history.push(entry.version);
  begin(entry);
  entry.version.copy = copy;
  await registry(env).put(recordOf(entry));
  await promise(env, entry, entry.version);
  await old.destroy();
}

/** Keeps a copy of a version, so that its bookmark may be told. */
export async function promise(env, entry, version) {
  if (version.isKept) return version;
  let copy = version.copy;
  if (copy === undefined) {
    copy = take(await objectOf(env, entry).copy());
    // Of what was written meanwhile nobody knows on which side of the copy it is.
    if (entry.version !== version) return promise(env, entry, entry.version);
  }
  const { bookmark, at } = version;
  await registry(env).keep(entry.uuid, bookmark, at, give(copy));
  version.isKept = true;
  version.copy = undefined;
  return version;
}

/** The version that was there at a time: the newest that is not younger. */
async function versionAt(env, entry, time) {
  if (time === undefined || entry.version.at <= time) return promise(env, entry, entry.version);
  const version = entry.history.findLast(({ at }) => at <= time);
  if (version === undefined) throw sqlRefused("There is no bookmark at or before the timestamp");
  if (!version.isKept && version.copy === undefined) {
    throw sqlRefused("This server holds no copy of that time; ask for a bookmark at that time");
  }
  return promise(env, entry, version);
}

function timeOf(url) {
  const text = url.searchParams.get("timestamp");
  if (text === null) return undefined;
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw malformed("Invalid property: timestamp => Invalid datetime");
  return time;
}
