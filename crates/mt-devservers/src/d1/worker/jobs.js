// Exports and imports: both are asked for again and again, and nothing else is served meanwhile.

import { bodyOf } from "./api.js";
import { md5, sign } from "./files.js";
import { done, malformed, notFound, sqlRefused } from "./reply.js";
import { begin, give, objectOf, site, take } from "./state.js";
import { promise } from "./travel.js";

/** Refuses while a job runs, and when the database was deleted meanwhile. A job that nobody asks for is cancelled. */
export function checkIdle(env, entry) {
  if (entry.isGone) throw notFound(entry.uuid);
  if (entry.job !== undefined && Date.now() - entry.job.asked > env.SETTINGS.job_patience_ms) {
    entry.job = undefined;
  }
  if (entry.job !== undefined) {
    throw sqlRefused(`Currently processing a long-running ${entry.job.type}.`);
  }
}

const active = ({ type, bookmark }, more = {}) =>
  done({ success: true, type, at_bookmark: bookmark, messages: [`${type} in progress`], ...more });

const failed = (type, bookmark, error) =>
  done({ success: false, type, at_bookmark: bookmark, status: "error", messages: [], error });

const complete = (type, bookmark, result) =>
  done({ success: true, type, at_bookmark: bookmark, status: "complete", messages: [], result });

/** The job that is asked for; or the answer, when there is none of it any more. */
function asked(env, entry, type, bookmark) {
  const { finished, job } = entry;
  if (finished?.type === type && finished.bookmark === bookmark) {
    const { result, error } = finished;
    const isFine = error === undefined;
    return { answer: isFine ? complete(type, bookmark, result) : failed(type, bookmark, error) };
  }
  const isThis = job?.type === type && job.bookmark === bookmark;
  if (!isThis || Date.now() - job.asked > env.SETTINGS.job_patience_ms) {
    if (isThis) entry.job = undefined;
    return { answer: failed(type, bookmark, `Not currently processing an ${type} at this bookmark`) };
  }
  job.asked = Date.now();
  job.polls += 1;
  return job.polls < env.SETTINGS.job_polls ? { answer: active(job) } : { job };
}

function finish(entry, job, outcome) {
  entry.job = undefined;
  entry.finished = { type: job.type, bookmark: job.bookmark, ...outcome };
  const { error, result } = outcome;
  if (error !== undefined) return failed(job.type, job.bookmark, error);
  return complete(job.type, job.bookmark, result);
}

export async function exported({ request, env, entry }) {
  const { output_format, current_bookmark, dump_options = {} } = await bodyOf(request);
  if (output_format !== "polling") throw malformed("Invalid property: output_format");
  if (current_bookmark === undefined) {
    checkIdle(env, entry);
    const bookmark = (await promise(env, entry, entry.version)).bookmark;
    checkIdle(env, entry);
    entry.finished = undefined;
    entry.job = { type: "export", bookmark, options: dump_options, polls: 0, asked: Date.now() };
    return active(entry.job);
  }
  const { answer, job } = asked(env, entry, "export", current_bookmark);
  if (job === undefined) return answer;
  const { text, error } = take(await objectOf(env, entry).dump(job.options));
  if (error !== undefined) return finish(entry, job, { error });
  const filename = `${entry.uuid}.${job.bookmark}.sql`;
  site.files.set(filename, { signatures: [], bytes: new TextEncoder().encode(text) });
  const signed_url = sign(request, filename, "GET");
  return finish(entry, job, { result: { filename, signed_url } });
}

export async function imported({ request, env, entry }) {
  const { action, etag, filename, current_bookmark } = await bodyOf(request);
  const name = `${entry.uuid}.${etag}.sql`;
  switch (action) {
    case "init": {
      if (!/^[0-9a-f]{32}$/.test(etag ?? "")) throw malformed("Invalid property: etag");
      checkIdle(env, entry);
      if (site.files.get(name)?.bytes !== undefined) return start(env, entry, name, etag);
      const upload_url = sign(request, name, "PUT");
      return done({ success: true, type: "import", filename: name, upload_url, messages: [] });
    }
    case "ingest": {
      checkIdle(env, entry);
      if (filename !== name) throw malformed("Invalid property: filename");
      if (site.files.get(name)?.bytes === undefined) {
        return failed("import", undefined, "The file was not uploaded");
      }
      return start(env, entry, name, etag);
    }
    case "poll":
      return poll({ env, entry, current_bookmark });
    default:
      throw malformed("Invalid property: action");
  }
}

async function start(env, entry, name, etag) {
  const bytes = site.files.get(name).bytes;
  if ((await md5(bytes)) !== etag) return failed("import", undefined, "The etag does not match");
  const { bookmark } = await promise(env, entry, entry.version);
  checkIdle(env, entry);
  entry.finished = undefined;
  entry.job = { type: "import", bookmark, name, polls: 0, asked: Date.now() };
  return active(entry.job, { filename: name });
}

async function poll({ env, entry, current_bookmark }) {
  const { answer, job } = asked(env, entry, "import", current_bookmark);
  if (job === undefined) return answer;
  const text = new TextDecoder().decode(site.files.get(job.name).bytes);
  const outcome = await objectOf(env, entry).script(give(text));
  if (outcome.error !== undefined) return finish(entry, job, { error: outcome.error });
  entry.history.push(entry.version);
  begin(entry);
  const final_bookmark = (await promise(env, entry, entry.version)).bookmark;
  const { queries: num_queries, meta } = outcome;
  return finish(entry, job, { result: { final_bookmark, num_queries, meta } });
}
