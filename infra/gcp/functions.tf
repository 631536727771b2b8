# The functions, as functions/functions.yaml describes them: code, account, environment, queue, schedule, events, callers.

module "table" {
  source = "../modules/table"

  file         = "${path.module}/../../functions/functions.yaml"
  host         = "gcp"
  name         = var.name
  emulated     = var.endpoint_url != null
  functions    = var.functions
  pools        = var.pools
  orchestrator = var.orchestrator
  settings     = var.settings
  database_url = try(var.database.existing.url, null)
  secrets      = { nats = try(var.nats.existing.ca_secret_id, null) == null ? ["nats_url"] : ["nats_url", "nats_ca"] }
}

locals {
  functions = module.table.functions
  # worker pools whose orchestrator is in their own process
  direct   = module.table.direct
  manifest = jsondecode(file("${var.package.directory}/manifest.json"))
}

# ---- names that are known before what they name is created, since functions and their queues refer to each other

locals {
  queue_names = { for queue in keys(module.table.queues) : queue => "${var.name}-${replace(queue, "_", "-")}" }
  queue_ids   = { for queue, name in local.queue_names : queue => "projects/${var.project}/locations/${var.region}/queues/${name}" }
  # a service account's ID has at most 30 characters
  accounts = {
    for name in concat([for row in values(local.functions) : row.full_name], [for queue in keys(local.queue_names) : "${var.name}-q-${replace(queue, "_", "-")}"]) :
    name => length(name) <= 30 ? name : "${substr(name, 0, 23)}-${substr(sha256(name), 0, 6)}"
  }
}

# ---- environment of each function, and what it may do

locals {
  # short name -> full ID
  secret_ids = merge(module.secrets.ids, local.existing_secrets)
  # the name of one says for which role of the database it is
  provisioned_secrets = {
    for secret in local.secrets :
    (secret == "database_role" ? "database_role/${module.table.worker.role}" : secret) => module.secrets.ids[secret]
  }

  # the values of settings that only Google Cloud has, but for the control plane's URL
  settings = {
    for name, row in local.functions : name => {
      function_urls = jsonencode({ for queue in row.invokes : queue => local.queue_ids[queue] })
      result_url    = "gs://${local.result_bucket}/results"
      nats_replicas = tostring(try(var.nats.existing.replicas, 1))
      # what is left to answer in; of a short limit, half of it
      time_budget = tostring(max(row.timeout_s - 10, floor(row.timeout_s / 2)))
      worker_role = length(local.direct) == 0 ? null : module.table.worker.role
    }
  }
  base_environment = {
    for name, row in local.functions : name => merge(
      { for setting, value in local.settings[name] : "NOETL_${upper(setting)}" => value if contains(row.settings, setting) && value != null },
      row.environment,
      { NOETL_SECRETS = jsonencode({ for setting, secret in row.reads : setting => local.secret_ids[secret] }) },
      contains(row.secrets, "database_url") ? { NOETL_DATABASE_URL = row.role == "worker" ? module.table.worker.url : var.database.existing.url } : {},
      row.role == "migration" ? { NOETL_PROVISION = jsonencode(local.provisioned_secrets) } : {},
      var.endpoint_url == null ? {} : { GOOGLE_ENDPOINT_URL = var.endpoint_url },
    )
  }
  environment = {
    for name, row in local.functions : name => merge(
      row.calls ? { NOETL_CONTROL_PLANE_URL = module.control_plane.uri } : {},
      local.base_environment[name],
    )
  }

  # what needs the function's account and nothing else; the queues and the control plane are told who may turn to them
  access = {
    for name, row in local.functions : name => {
      reads   = { for secret in values(row.reads) : secret => local.secret_ids[secret] }
      fills   = row.role == "migration" ? module.secrets.ids : {}
      results = row.results == null ? null : { verb = row.results, bucket = local.result_bucket, prefix = "results/" }
      signs   = row.role == "control_plane"
      polls   = contains(row.kinds, "event") ? var.events.subscriptions : []
    }
  }
}

# ---- the control plane, whose URL others need, and then the others

module "control_plane" {
  source = "../modules/gcp/function"

  name         = local.functions["control_plane"].full_name
  account      = local.accounts[local.functions["control_plane"].full_name]
  description  = "NoETL: control plane"
  location     = var.region
  environment  = local.base_environment["control_plane"]
  access       = local.access["control_plane"]
  code         = local.code["control_plane"]
  limits       = local.functions["control_plane"]
  network      = var.network.existing
  reached_from = "internet"
}

module "function" {
  source   = "../modules/gcp/function"
  for_each = { for name, row in local.functions : name => row if name != "control_plane" }

  name        = each.value.full_name
  account     = local.accounts[each.value.full_name]
  description = "NoETL: ${replace(each.key, "_", " ")}"
  location    = var.region
  environment = local.environment[each.key]
  access      = local.access[each.key]
  code        = local.code[each.key]
  limits      = each.value
  network     = var.network.existing
  # queues, the clock and the topic are in the project; persons and the callers of the gateway are not
  reached_from = contains(each.value.kinds, "http") ? "internet" : "project"
}

locals {
  code = {
    for name, row in local.functions : name => {
      image         = module.images.images[row.like]
      source        = module.images.sources[row.like]
      base_image    = "python${replace(local.manifest.python, ".", "")}"
      build_account = module.images.account
    }
  }
  services = merge({ control_plane = module.control_plane }, module.function)
  targets = {
    for name, service in local.services : name => {
      name          = service.name
      uri           = service.uri
      timeout_s     = local.functions[name].timeout_s
      max_instances = local.functions[name].max_instances
    }
  }
}

# ---- what calls them, and who may call or invoke them

module "queue" {
  source   = "../modules/gcp/queue"
  for_each = module.table.queues

  name     = local.queue_names[each.key]
  account  = local.accounts["${var.name}-q-${replace(each.key, "_", "-")}"]
  location = var.region
  function = local.targets[each.value]
  invokers = { for name, row in local.functions : name => local.services[name].member if contains(row.invokes, each.key) }
}

module "clock" {
  source   = "../modules/gcp/clock"
  for_each = { for name, row in local.functions : name => row if row.every_s != null }

  name          = "${var.name}-clock"
  location      = var.region
  function      = local.targets[each.key]
  every_minutes = max(1, ceil(each.value.every_s / 60))
}

module "events" {
  source   = "../modules/gcp/events"
  for_each = { for name, row in local.functions : name => row if contains(row.kinds, "event") }

  name       = "${var.name}-events"
  location   = var.region
  function   = local.targets[each.key]
  results    = var.events.results ? { bucket = local.result_bucket, prefix = "results/" } : null
  publishers = var.events.publishers
  buckets    = var.events.buckets
}

module "api" {
  source   = "../modules/gcp/api"
  for_each = { for name, row in local.functions : name => row if contains(row.kinds, "http") }

  function = local.services[each.key]
  # everybody reaches the gateway, which requires a session
  callers = each.value.public ? { everybody = "allUsers" } : merge(
    { operator = "serviceAccount:${google_service_account.operator.email}" },
    each.key == "control_plane" ? { for name, row in local.functions : name => local.services[name].member if row.calls } : {},
  )
}
