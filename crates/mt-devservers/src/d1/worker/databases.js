// To create, find, list, change and delete databases.

import { bodyOf } from "./api.js";
import { done, malformed, Refusal } from "./reply.js";
import { entryOf, objectOf, registry } from "./state.js";

const JURISDICTIONS = ["eu", "fedramp", "us"];
const LOCATIONS = ["wnam", "enam", "weur", "eeur", "apac", "oc"];
const MODES = ["auto", "disabled"];
const REGION = "weur";

/** How many one page has when nobody asks for less; which is the most is not documented. */
const PAGE = 100;

const FIELDS = [
  "uuid",
  "name",
  "created_at",
  "version",
  "num_tables",
  "file_size",
  "jurisdiction",
  "running_in_region",
  "read_replication",
];

export async function create({ request, env, all }) {
  const body = await bodyOf(request);
  const { name, jurisdiction = null, primary_location_hint: hint, read_replication } = body;
  if (typeof name !== "string" || name === "") throw malformed("Invalid property: name => Required");
  oneOf("jurisdiction", jurisdiction, [null, ...JURISDICTIONS]);
  oneOf("primary_location_hint", hint ?? null, [null, ...LOCATIONS]);
  const mode = modeOf(read_replication, false) ?? "disabled";
  if ([...all.values()].some((entry) => entry.name === name)) {
    throw new Refusal(400, 7502, `A database with the name '${name}' already exists`);
  }
  if (env.SETTINGS.quota !== null && all.size >= env.SETTINGS.quota) {
    const message = "You have reached the maximum number of D1 databases for your account";
    throw new Refusal(400, 7406, message);
  }
  const region = (jurisdiction === null ? (hint ?? REGION) : REGION).toUpperCase();
  const created_at = new Date().toISOString();
  const uuid = crypto.randomUUID();
  const record = { uuid, name, created_at, jurisdiction, region, mode, generation: 0 };
  const entry = entryOf(record);
  // The name is taken before anything is awaited, so that of two one is told so.
  all.set(uuid, entry);
  try {
    const object = objectOf(env, entry);
    const [described] = await Promise.all([object.describe(), registry(env).put(record)]);
    return done({ ...shown(entry, described), created_in_region: region });
  } catch (error) {
    all.delete(uuid);
    throw error;
  }
}

export async function list({ url, all }) {
  const [page, size] = [count(url, "page", 1), Math.min(count(url, "per_page", PAGE), PAGE)];
  const part = url.searchParams.get("name")?.toLowerCase() ?? "";
  const found = [...all.values()].filter((entry) => entry.name.toLowerCase().includes(part));
  const shownOnes = found.slice((page - 1) * size, page * size).map((entry) => {
    const { uuid, name, created_at, jurisdiction } = entry;
    return { uuid, name, version: "production", created_at, jurisdiction };
  });
  const info = { page, per_page: size, count: shownOnes.length, total_count: found.length };
  return done(shownOnes, info);
}

export async function show({ url, env, entry }) {
  const fields = url.searchParams.get("fields")?.split(",") ?? FIELDS;
  for (const field of fields) oneOf("fields", field, FIELDS);
  const needsObject = fields.includes("num_tables") || fields.includes("file_size");
  const described = needsObject ? await objectOf(env, entry).describe() : {};
  const whole = { ...shown(entry, described), running_in_region: entry.region };
  return done(Object.fromEntries(fields.map((field) => [field, whole[field]])));
}

export async function change({ request, env, entry }, isRequired) {
  const mode = modeOf((await bodyOf(request)).read_replication, isRequired);
  if (mode !== undefined) {
    entry.mode = mode;
    await registry(env).put(recordOf(entry));
  }
  return done(shown(entry, await objectOf(env, entry).describe()));
}

export async function remove({ env, all, entry }) {
  all.delete(entry.uuid);
  entry.isGone = true;
  await registry(env).remove(entry.uuid);
  await objectOf(env, entry).destroy();
  return done(null);
}

/** What the registry keeps of an entry. */
export function recordOf({ uuid, name, created_at, jurisdiction, region, mode, generation }) {
  return { uuid, name, created_at, jurisdiction, region, mode, generation };
}

function shown({ uuid, name, created_at, jurisdiction, mode }, { file_size, num_tables }) {
  const read_replication = { mode };
  const version = "production";
  return { uuid, name, created_at, version, num_tables, file_size, jurisdiction, read_replication };
}

function modeOf(read_replication, isRequired) {
  if (read_replication === undefined && !isRequired) return undefined;
  const mode = read_replication?.mode;
  oneOf("read_replication.mode", mode, MODES);
  return mode;
}

function oneOf(property, value, known) {
  if (!known.includes(value)) throw malformed(`Invalid property: ${property} => Invalid enum value`);
}

function count(url, name, otherwise) {
  const text = url.searchParams.get(name);
  if (text === null) return otherwise;
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw malformed(`Invalid property: ${name}`);
  return Number(text);
}
