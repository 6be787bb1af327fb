using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "d1", worker = .worker),
    (name = "disk", disk = (path = "data", writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "d1")],
);

const worker :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [
    (name = "main.js", esModule = embed "main.js"),
    (name = "api.js", esModule = embed "api.js"),
    (name = "copy.js", esModule = embed "copy.js"),
    (name = "database.js", esModule = embed "database.js"),
    (name = "databases.js", esModule = embed "databases.js"),
    (name = "dump.js", esModule = embed "dump.js"),
    (name = "files.js", esModule = embed "files.js"),
    (name = "jobs.js", esModule = embed "jobs.js"),
    (name = "query.js", esModule = embed "query.js"),
    (name = "registry.js", esModule = embed "registry.js"),
    (name = "reply.js", esModule = embed "reply.js"),
    (name = "split.js", esModule = embed "split.js"),
    (name = "state.js", esModule = embed "state.js"),
    (name = "travel.js", esModule = embed "travel.js"),
  ],
  bindings = [
    (name = "SETTINGS", json = embed "settings.json"),
    (name = "DATABASE", durableObjectNamespace = "Database"),
    (name = "REGISTRY", durableObjectNamespace = "Registry"),
  ],
  durableObjectNamespaces = [
    (className = "Database", uniqueKey = "database", enableSql = true, preventEviction = true),
    (className = "Registry", uniqueKey = "registry", enableSql = true, preventEviction = true),
  ],
  durableObjectStorage = (localDisk = "disk"),
);
