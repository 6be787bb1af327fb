// /client/v4/accounts/{account}/d1/database…

import { create, list, show, change, remove } from "./databases.js";
import { exported, imported } from "./jobs.js";
import { query } from "./query.js";
import { malformed, notFound, Refusal } from "./reply.js";
import { databases } from "./state.js";
import { bookmark, restore } from "./travel.js";

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

const ROUTES = {
  "POST query": (call) => query(call, false),
  "POST raw": (call) => query(call, true),
  "POST export": exported,
  "POST import": imported,
  "GET time_travel/bookmark": bookmark,
  "POST time_travel/restore": restore,
  "GET ": show,
  "PUT ": (call) => change(call, true),
  "PATCH ": (call) => change(call, false),
  "DELETE ": remove,
};

export async function account(request, url, env) {
  const { account, token } = env.SETTINGS;
  const [, client, v4, accounts, id, d1, database, name, ...rest] = url.pathname.split("/");
  const isApi = client === "client" && v4 === "v4" && accounts === "accounts" && id !== undefined;
  if (request.headers.get("authorization") !== `Bearer ${token}`) {
    throw new Refusal(401, 10000, "Authentication error");
  }
  const isOurs = isApi && d1 === "d1" && database === "database";
  if (!isOurs || !/^[0-9a-f]{32}$/.test(id)) {
    const path = url.pathname;
    const message = `Could not route to ${path}, perhaps your object identifier is invalid?`;
    throw new Refusal(404, 7003, message);
  }
  if (id !== account) {
    const message = "The given account is not valid or is not authorized to access this service";
    throw new Refusal(403, 7403, message);
  }
  const call = { request, url, env, all: await databases(env) };
  const { method } = request;
  if (name === undefined || name === "") {
    if (method === "GET") return list(call);
    if (method === "POST") return create(call);
    throw new Refusal(405, 10405, "Method not allowed for this authentication scheme");
  }
  const action = rest.join("/");
  const route = ROUTES[`${method} ${action}`];
  if (route === undefined) throw new Refusal(404, 7003, `Could not route to ${url.pathname}`);
  const key = decoded(name);
  const isUuid = UUID.test(key);
  // Only to look one up is a name as good as an id.
  if (!isUuid && !(method === "GET" && action === "")) {
    throw malformed("Invalid property: databaseId => Invalid uuid, failed to decode id");
  }
  const named = () => [...call.all.values()].find((entry) => entry.name === key);
  const entry = isUuid ? call.all.get(key.toLowerCase()) : named();
  if (entry === undefined) throw notFound(key);
  return route({ ...call, entry });
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    throw malformed("failed to decode id");
  }
}

/** The body, which has to be a JSON object. */
export async function bodyOf(request) {
  const text = await request.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw malformed("The request body is not valid JSON");
  }
  if (body === null || typeof body !== "object" || Array.isArray(body)) {
    throw malformed("The request body is not an object");
  }
  return body;
}
