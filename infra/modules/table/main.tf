# What functions/functions.yaml and the inputs of a deployment say together, in no cloud's words.

locals {
  table = yamldecode(file(var.file))

  rows = {
    for name, row in local.table.functions : name => merge({
      max_instances = null
      like          = name
      labels        = {}
      max_in_flight = null
      cpu           = null
      accelerator   = null
    }, row)
    if contains(try(row.hosts, [var.host]), var.host)
  }
  added = {
    for pool, given in var.pools : "worker_${pool}" => merge(local.rows[given.like], {
      pool          = pool
      memory_mb     = given.memory_mb
      timeout_s     = given.timeout_s
      max_instances = given.max_instances
      labels        = given.labels
      max_in_flight = given.max_in_flight
      cpu           = given.cpu
      accelerator   = given.accelerator
    })
  }
  described = merge(local.rows, local.added)
  # the settings that an input may give
  settable = { for name, row in local.described : name => concat(row.settings, local.table.direct.settings) }

  # tool kind -> pool
  tool_pools = merge(
    merge([for pool, kinds in try(local.table.pools, {}) : { for kind in kinds : kind => pool }]...),
    merge([for pool, given in var.pools : { for kind in given.kinds : kind => pool }]...),
  )
}

# ---- the pools that steps may name, for the control plane

locals {
  worker_pools = {
    for name, pool in local.pool_of : pool => {
      labels      = local.described[name].labels
      accelerator = local.described[name].accelerator
      extras      = local.described[name].extras
      direct      = contains(local.direct, name)
    }
  }
}

# ---- how workers reach the orchestrator

locals {
  # worker -> its pool, what functions.yaml says of its orchestrator, and the kinds of its pool that run users' code
  pool_of = { for name, row in local.described : name => row.pool if row.pool != null }
  ways    = { for name in keys(local.pool_of) : name => try(local.described[name].orchestrator[var.host], "remote") }
  code_kinds = {
    for name, pool in local.pool_of : name => sort([for kind in local.table.users_code : kind if lookup(local.tool_pools, kind, "shared") == pool])
  }
  direct = [for name, way in local.ways : name if lookup(var.orchestrator, name, way) == "direct"]
}

# ---- what starts a function, and whom it turns to

locals {
  resized = {
    for name, row in local.described : name => merge(
      row,
      { for limit, value in try(var.functions[name], {}) : limit => value if value != null && limit != "settings" },
      {
        # a worker with the orchestrator in its own process needs more than its row says
        secrets  = concat(row.secrets, contains(local.direct, name) ? local.table.direct.secrets : [])
        settings = concat(row.settings, contains(local.direct, name) ? local.table.direct.settings : [])
        kinds    = row.triggers[*].kind
      },
    )
  }
  # a function that others invoke has a queue, named after its pool
  queues = { for name, row in local.resized : name => coalesce(row.pool, name) if contains(row.kinds, "queue") }

  functions = {
    for name, row in local.resized : name => merge(row, {
      full_name = "${var.name}-${replace(name, "_", "-")}"
      queue     = lookup(local.queues, name, null)
      every_s   = one([for trigger in row.triggers : trigger.every_s if trigger.kind == "schedule"])
      public    = anytrue([for trigger in row.triggers : trigger.kind == "http" && try(trigger.public, false)])
      # the queues through which it invokes others: a worker only its own pool, unless it commits what others wait for
      invokes = [
        for other, queue in local.queues : queue
        if contains(row.settings, "function_urls") && (row.role != "worker" || other == name || contains(local.direct, name))
      ]
      calls   = contains(["gateway", "worker"], row.role)
      results = contains(row.settings, "result_url") ? lookup({ control_plane = "write", worker = "write", reconciler = "sweep" }, row.role, null) : null
      reads = merge([
        for secret in row.secrets :
        secret == "service_token" ? { service_token = "service_token/${row.role}" } :
        secret == "nats_url" ? { for one in var.secrets.nats : one => one } :
        secret == "database_url" && !var.secrets.database ? {} :
        secret == "database_url" && row.role == "worker" ? { database_url = "database_role" } :
        { (secret) = secret }
      ]...)
      environment = merge(
        {
          NOETL_HOST      = var.host
          NOETL_FUNCTION  = name
          NOETL_LOG_LEVEL = var.settings.log_level
        },
        row.pool == null ? {} : { NOETL_POOL = row.pool },
        length(row.labels) == 0 ? {} : { NOETL_LABELS = jsonencode(row.labels) },
        { for setting in row.settings : "NOETL_${upper(setting)}" => local.settings[name][setting] if try(local.settings[name][setting], null) != null },
      )
    })
  }
  # the values of settings that are the same in every cloud
  settings = {
    for name, row in local.resized : name => merge({
      pools         = jsonencode(local.tool_pools)
      worker_pools  = jsonencode(local.worker_pools)
      max_in_flight = row.max_in_flight == null ? null : tostring(row.max_in_flight)
      orchestrator  = contains(local.direct, name) ? "direct" : null
      oidc_issuer   = var.settings.oidc_issuer
      oidc_audience = var.settings.oidc_audience
      session_ttl   = var.settings.session_ttl == null ? null : tostring(var.settings.session_ttl)
      public_url    = var.settings.public_url
      result_auto   = var.settings.result_auto
      scratch       = "/tmp"
    }, try(var.functions[name].settings, {}))
  }
}

# ---- the role of direct workers in an existing database

locals {
  # server and database, without the user
  place = var.database_url == null ? "" : regex("^postgres(?:ql)?://(?:[^@/]+@)?(.+)$", var.database_url)[0]
  # roles belong to a server, which may hold several engines
  worker_role = "${substr(regex("^[^/]*/([^/?]*)", "${local.place}/")[0], 0, 56)}_worker"
}
