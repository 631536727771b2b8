# The functions, as functions/functions.yaml describes them: code, role, environment, queue, schedule, API.

module "table" {
  source = "../modules/table"

  file         = "${path.module}/../../functions/functions.yaml"
  host         = "aws"
  name         = var.name
  emulated     = var.endpoint_url != null
  functions    = var.functions
  pools        = var.pools
  orchestrator = var.orchestrator
  settings     = var.settings
  database_url = try(var.database.existing.url, null)
  secrets = {
    nats     = var.nats.cluster != null ? ["nats_password", "nats_ca"] : try(var.nats.existing.ca_secret_arn, null) != null ? ["nats_url", "nats_ca"] : ["nats_url"]
    database = !local.iam_auth
  }
}

locals {
  functions = module.table.functions
  # worker pools whose orchestrator is in their own process
  direct   = module.table.direct
  manifest = jsondecode(file("${var.package.directory}/manifest.json"))
  runtime  = "python${local.manifest.python}"
}

# ---- code

resource "aws_s3_object" "code" {
  # checkov:skip=CKV_AWS_186: encrypted by the default encryption of the bucket
  for_each = module.table.packages

  bucket = module.code.name
  # a new package is a new object; versions that already run keep their code
  key    = "${each.key}/${local.manifest.functions[each.key].sha256}.zip"
  source = "${var.package.directory}/${local.manifest.functions[each.key].file}"

  lifecycle {
    # the key contains the hash of the package: the same package in another folder is not a change
    ignore_changes = [source]
  }
}

# ---- queues

module "queue" {
  source   = "../modules/aws/queue"
  for_each = module.table.queues

  name         = "${var.name}-${replace(each.key, "_", "-")}"
  visibility_s = local.functions[each.value].timeout_s + 30
  tls_only     = local.tls_only
  kms_key_arn  = local.key_arn
  topic        = contains(local.functions[each.value].kinds, "event") ? { arn = local.topic_arn } : null
}

# ---- environment of each function, and what it may do

locals {
  # secret -> its ARN
  secret_arns = merge(
    module.secrets.arns,
    var.nats.existing == null ? {} : { nats_url = var.nats.existing.secret_arn },
    try(var.nats.existing.ca_secret_arn, null) == null ? {} : { nats_ca = var.nats.existing.ca_secret_arn },
    local.iam_auth ? {} : { database_url = local.database.secret_arn },
  )
  # the secrets that the control plane fills when it migrates; the names of two say for whom: nodes' hosts, or a role
  provisioned_secrets = {
    for secret in keys(local.secrets) :
    (secret == "nats_server" ? local.nats_server_secret : secret == "database_role" ? local.database_role_secret : secret) => module.secrets.arns[secret]
  }
  # a service role, or the database role of direct workers -> its secret
  rotated_secrets = merge(
    { for role in local.service_roles : role => "service_token/${role}" },
    { for secret in keys(local.secrets) : secret => secret if secret == "database_role" },
  )

  control_plane = "${local.functions["control_plane"].full_name}:live"
  # the values of settings that only AWS has
  settings = {
    for name, row in local.functions : name => {
      control_plane_url = row.calls ? "lambda://${local.control_plane}" : null
      public_url        = trimsuffix(module.api["gateway"].url, "/")
      function_urls     = jsonencode({ for queue in row.invokes : queue => module.queue[queue].url })
      result_url        = "s3://${local.result_bucket.name}/results"
      nats_replicas     = tostring(local.nats_replicas)
      token_days        = var.secrets.rotation_days == 0 ? null : tostring(var.secrets.rotation_days + var.secrets.grace_days)
      database_auth     = local.iam_auth ? "iam" : null
      worker_role       = length(local.direct) == 0 ? null : local.database.worker_role
    }
  }
  environment = {
    for name, row in local.functions : name => merge(
      { for setting, value in local.settings[name] : "NOETL_${upper(setting)}" => value if contains(row.settings, setting) && value != null },
      row.environment,
      { NOETL_SECRETS = jsonencode({ for setting, secret in row.reads : setting => local.secret_arns[secret] }) },
      contains(row.secrets, "database_url") ? { NOETL_DATABASE_URL = row.role == "worker" ? local.database.worker_url : local.database.url } : {},
      contains(row.secrets, "nats_url") && var.nats.cluster != null ? {
        NOETL_NATS_URL = join(",", [for host in local.nats_hosts : "tls://${host}:4222"])
      } : {},
      name == "control_plane" ? { NOETL_PROVISION = jsonencode(local.provisioned_secrets) } : {},
      var.endpoint_url == null ? {} : { AWS_ENDPOINT_URL = var.endpoint_url },
    )
  }

  access = {
    for name, row in local.functions : name => {
      # the control plane also reads the secrets that it fills, to see what they hold
      reads        = distinct(concat([for secret in values(row.reads) : local.secret_arns[secret]], name == "control_plane" ? values(local.provisioned_secrets) : []))
      fills        = name == "control_plane" ? values(local.provisioned_secrets) : []
      rotates      = name == "control_plane" ? [for secret in values(local.rotated_secrets) : module.secrets.arns[secret]] : []
      invokes      = [for queue in row.invokes : module.queue[queue].arn]
      receives     = row.queue == null ? null : module.queue[row.queue].arn
      polls        = contains(row.kinds, "event") ? sort(var.events.queues) : []
      dead_letters = row.every_s == null ? null : module.queue[row.queue].dead_arn
      calls        = row.calls ? ["arn:${local.account.partition}:lambda:${var.region}:${local.account.id}:function:${local.control_plane}"] : []
      connects     = !(local.iam_auth && contains(row.secrets, "database_url")) ? [] : row.role == "worker" ? local.database.worker_connect_arns : local.database.connect_arns
      results      = row.results == null ? null : { verb = row.results, bucket_arn = local.result_bucket.arn, prefix = "results/" }
      keys         = concat(local.key_arn == null ? [] : [local.key_arn], tolist(var.encryption.extra_key_arns))
    }
  }
}

# ---- the functions, by version

locals {
  security_group_ids = {
    for name, row in local.functions : name => concat(
      [module.network.functions_security_group_id],
      contains(row.secrets, "database_url") ? [module.network.database_clients_security_group_id] : [],
    )
  }
}

module "function" {
  source   = "../modules/aws/function"
  for_each = local.functions

  name        = each.value.full_name
  description = "NoETL: ${replace(each.key, "_", " ")}"
  partition   = local.account.partition
  environment = local.environment[each.key]
  access      = local.access[each.key]
  log         = local.log
  kms_key_arn = local.key_arn
  code = {
    bucket       = aws_s3_object.code[each.value.like].bucket
    key          = aws_s3_object.code[each.value.like].key
    sha256       = local.manifest.functions[each.value.like].base64sha256
    handler      = "main.function"
    runtime      = local.runtime
    architecture = local.manifest.architecture
  }
  limits = {
    memory_mb     = each.value.memory_mb
    timeout_s     = each.value.timeout_s
    max_instances = each.value.max_instances
    scratch_mb    = coalesce(try(var.functions[each.key].scratch_mb, null), 512)
  }
  network = {
    subnet_ids         = module.network.subnet_ids
    security_group_ids = local.security_group_ids[each.key]
  }
}

# ---- before a new control plane gets traffic: fill the missing secrets, migrate the database

resource "aws_lambda_invocation" "migrate" {
  function_name = module.function["control_plane"].name
  qualifier     = module.function["control_plane"].version
  input         = jsonencode({ noetl = "migrate" })

  depends_on = [
    aws_vpc_security_group_egress_rule.database,
    module.database,
    module.network,
  ]
}

# ---- then the new versions get traffic

module "release" {
  source   = "../modules/aws/release"
  for_each = local.functions

  function = { name = module.function[each.key].name, version = module.function[each.key].version }
  queue = each.value.queue == null ? null : {
    arn = module.queue[each.value.queue].arn
    # for a pool, each message is one invocation of a worker; messages to the other functions repeat each other
    batch_size      = coalesce(try(var.functions[each.key].batch_size, null), each.value.pool == null ? 10 : 1)
    max_concurrency = each.value.max_instances == null ? null : max(2, each.value.max_instances)
  }
  schedule = each.value.every_s == null ? null : {
    every_minutes = max(1, ceil(each.value.every_s / 60))
    input         = jsonencode({ noetl = "tick" })
    dead_arn      = module.queue[each.value.queue].dead_arn
    kms_key_arn   = local.key_arn
  }

  depends_on = [aws_lambda_invocation.migrate]
}

# ---- events: a message of the topic is an invocation like any other

locals {
  # known before the topic is created, since the queue must let it send, and it must send to the queue
  topic_arn = "arn:${local.account.partition}:sns:${var.region}:${local.account.id}:${var.name}-events"
}

module "events" {
  source   = "../modules/aws/events"
  for_each = { for name, row in local.functions : name => row if contains(row.kinds, "event") }

  name        = "${var.name}-events"
  queue_arn   = module.queue[each.value.queue].arn
  publishers  = var.events.publishers
  buckets     = [for bucket in var.events.buckets : "arn:${local.account.partition}:s3:::${bucket}"]
  kms_key_arn = local.key_arn
  # all notifications of a bucket are one setting, which belongs to its owner
  results = !coalesce(var.events.results, var.encryption.key_arn == null) ? null : {
    bucket     = local.result_bucket.name
    bucket_arn = local.result_bucket.arn
    prefix     = "results/"
    notify     = var.results.existing == null
  }
}

# ---- HTTP APIs for callers from outside

module "api" {
  source = "../modules/aws/api"
  for_each = {
    for name, row in local.functions : name => row
    if contains(row.kinds, "http") && (row.public || var.http.control_plane)
  }

  name     = each.value.full_name
  log      = local.log
  throttle = { rate = var.http.rate, burst = var.http.burst }
  cors     = each.key == "gateway" && var.http.cors_origins != null ? { origins = var.http.cors_origins } : null
  function = {
    name       = each.value.full_name
    alias      = module.release[each.key].alias
    invoke_arn = module.release[each.key].invoke_arn
  }
}

# ---- rotation: an old token remains valid for secrets.grace_days, so no caller is interrupted, and a password is read for
# each new connection

resource "aws_lambda_permission" "rotation" {
  for_each = var.secrets.rotation_days == 0 ? {} : local.rotated_secrets

  statement_id  = "Rotation-${each.key}"
  action        = "lambda:InvokeFunction"
  function_name = module.function["control_plane"].name
  principal     = "secretsmanager.amazonaws.com"
  source_arn    = module.secrets.arns[each.value]
}

resource "aws_secretsmanager_secret_rotation" "token" {
  # checkov:skip=CKV_AWS_304: rotated after secrets.rotation_days, 90 by default
  for_each = var.secrets.rotation_days == 0 ? {} : local.rotated_secrets

  secret_id           = module.secrets.arns[each.value]
  rotation_lambda_arn = module.function["control_plane"].arn
  # the migration creates the first value
  rotate_immediately = false

  rotation_rules {
    automatically_after_days = var.secrets.rotation_days
  }

  depends_on = [aws_lambda_invocation.migrate, aws_lambda_permission.rotation]
}
