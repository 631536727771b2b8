# The functions, as functions/functions.yaml describes them: code, role, environment, queue, schedule, API.

locals {
  function_table = yamldecode(file("${path.module}/../../functions/functions.yaml"))
  manifest       = jsondecode(file("${var.package.directory}/manifest.json"))

  base_functions = {
    for name, row in local.function_table.functions : name => merge({ max_instances = null, like = name }, row)
    if contains(try(row.hosts, ["aws"]), "aws")
  }
  pool_functions = {
    for pool, given in var.pools : "worker_${pool}" => merge(local.base_functions[given.like], {
      pool          = pool
      memory_mb     = given.memory_mb
      timeout_s     = given.timeout_s
      max_instances = given.max_instances
    })
  }
  described_functions = merge(local.base_functions, local.pool_functions)
  functions = {
    for name, row in local.described_functions : name => merge(row, {
      for key, value in try(var.functions[name], {}) : key => value
      if value != null && contains(["memory_mb", "timeout_s", "max_instances"], key)
      }, {
      # what only a worker with the orchestrator in its own process needs
      secrets  = concat(row.secrets, contains(local.direct, name) ? local.function_table.direct.secrets : [])
      settings = concat(row.settings, contains(local.direct, name) ? local.function_table.direct.settings : [])
    })
  }
  function_names = { for name, row in local.functions : name => "${var.name}-${replace(name, "_", "-")}" }
  function_arns = {
    for name, full in local.function_names : name =>
    "arn:${local.account.partition}:lambda:${var.region}:${local.account.id}:function:${full}"
  }
  runtime = "python${local.manifest.python}"

  # a function that others invoke has a queue, named after its pool
  queue_names      = { for name, row in local.functions : name => coalesce(row.pool, name) if contains(row.triggers[*].kind, "queue") }
  schedule_seconds = { for name, row in local.functions : name => one([for trigger in row.triggers : trigger.every_s if trigger.kind == "schedule"]) if contains(row.triggers[*].kind, "schedule") }

  # tool kind -> pool
  tool_pools = merge(
    merge([for pool, kinds in try(local.function_table.pools, {}) : { for kind in kinds : kind => pool }]...),
    merge([for pool, given in var.pools : { for kind in given.kinds : kind => pool }]...),
  )
}

# ---- how workers reach the orchestrator

locals {
  # worker -> its pool, and what functions.yaml says of its orchestrator
  pool_of            = { for name, row in local.described_functions : name => row.pool if row.pool != null }
  table_orchestrator = { for name in keys(local.pool_of) : name => try(local.described_functions[name].orchestrator.aws, "remote") }
  # worker -> the kinds of its pool that run users' code
  code_kinds = {
    for name, pool in local.pool_of : name => sort([for kind in local.function_table.users_code : kind if lookup(local.tool_pools, kind, "shared") == pool])
  }
  direct = [for name, way in local.table_orchestrator : name if lookup(var.orchestrator, name, way) == "direct"]
}

# ---- code

resource "aws_s3_object" "code" {
  # checkov:skip=CKV_AWS_186: encrypted by the default encryption of the bucket
  for_each = toset([for row in values(local.functions) : row.like])

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
  for_each = { for name, queue in local.queue_names : queue => name }

  name         = "${var.name}-${replace(each.key, "_", "-")}"
  visibility_s = local.functions[each.value].timeout_s + 30
  tls_only     = local.tls_only
  kms_key_arn  = local.key_arn
}

# ---- environment and policy of each function

locals {
  calls_control_plane = { for name, row in local.functions : name => contains(["gateway", "worker"], row.role) }
  # the functions whose queues each may send to: a worker only its own pool, unless it commits what others wait for
  target_queues = {
    for name, row in local.functions : name => [
      for other, queue in local.queue_names : queue
      if contains(row.settings, "function_urls") && (row.role != "worker" || other == name || contains(local.direct, name))
    ]
  }
  setting_values = {
    for name, row in local.functions : name => merge({
      control_plane_url = local.calls_control_plane[name] ? "lambda://${local.function_names["control_plane"]}:live" : null
      function_urls     = jsonencode({ for queue in local.target_queues[name] : queue => module.queue[queue].url })
      result_url        = "s3://${local.result_bucket.name}/results"
      pools             = jsonencode(local.tool_pools)
      nats_replicas     = tostring(local.nats_replicas)
      token_days        = var.secrets.rotation_days == 0 ? null : tostring(var.secrets.rotation_days + var.secrets.grace_days)
      database_auth     = local.iam_auth ? "iam" : null
      orchestrator      = contains(local.direct, name) ? "direct" : null
      worker_role       = length(local.direct) == 0 ? null : local.database.worker_role
      oidc_issuer       = var.settings.oidc_issuer
      oidc_audience     = var.settings.oidc_audience
      session_ttl       = var.settings.session_ttl == null ? null : tostring(var.settings.session_ttl)
      scratch           = "/tmp"
    }, try(var.functions[name].settings, {}))
  }
  # secret -> its ARN
  secret_arns = merge(
    module.secrets.arns,
    var.nats.existing == null ? {} : { nats_url = var.nats.existing.secret_arn },
    try(var.nats.existing.ca_secret_arn, null) == null ? {} : { nats_ca = var.nats.existing.ca_secret_arn },
    local.iam_auth ? {} : { database_url = local.database.secret_arn },
  )
  nats_secrets = var.nats.cluster != null ? ["nats_password", "nats_ca"] : try(var.nats.existing.ca_secret_arn, null) != null ? ["nats_url", "nats_ca"] : ["nats_url"]
  # name of a setting -> secret
  function_secrets = {
    for name, row in local.functions : name => merge([
      for secret in row.secrets :
      secret == "service_token" ? { service_token = "service_token/${row.role}" } :
      secret == "nats_url" ? { for one in local.nats_secrets : one => one } :
      secret == "database_url" && local.iam_auth ? {} :
      secret == "database_url" && row.role == "worker" ? { database_url = "database_role" } :
      { (secret) = secret }
    ]...)
  }
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
  rotated_secret_arns = [for secret in values(local.rotated_secrets) : module.secrets.arns[secret]]

  environment = {
    for name, row in local.functions : name => merge(
      {
        NOETL_HOST      = "aws"
        NOETL_FUNCTION  = name
        NOETL_LOG_LEVEL = var.settings.log_level
        NOETL_SECRETS   = jsonencode({ for setting, secret in local.function_secrets[name] : setting => local.secret_arns[secret] })
      },
      row.pool == null ? {} : { NOETL_POOL = row.pool },
      contains(row.secrets, "database_url") ? { NOETL_DATABASE_URL = row.role == "worker" ? local.database.worker_url : local.database.url } : {},
      contains(row.secrets, "nats_url") && var.nats.cluster != null ? {
        NOETL_NATS_URL = join(",", [for host in local.nats_hosts : "tls://${host}:4222"])
      } : {},
      name == "control_plane" ? { NOETL_PROVISION = jsonencode(local.provisioned_secrets) } : {},
      var.endpoint_url == null ? {} : { AWS_ENDPOINT_URL = var.endpoint_url },
      { for setting in row.settings : "NOETL_${upper(setting)}" => local.setting_values[name][setting] if try(local.setting_values[name][setting], null) != null },
    )
  }

  result_objects_arn = "${local.result_bucket.arn}/results/*"
  result_statements = {
    control_plane = { ReadResults = { actions = ["s3:GetObject"], resources = [local.result_objects_arn], conditions = {} } }
    # a worker deletes an incomplete archive before it writes the complete one
    worker = { ReadWriteResults = { actions = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"], resources = [local.result_objects_arn], conditions = {} } }
    reconciler = {
      # it starts sub-playbooks that the control plane did not get to, and their input may be in the bucket
      ReadResults   = { actions = ["s3:GetObject"], resources = [local.result_objects_arn], conditions = {} }
      DeleteResults = { actions = ["s3:DeleteObject"], resources = [local.result_objects_arn], conditions = {} }
      ListResults = {
        actions    = ["s3:ListBucket"]
        resources  = [local.result_bucket.arn]
        conditions = { StringLike = { "s3:prefix" = ["results/*"] } }
      }
    }
  }
  kms_key_arns = concat(local.key_arn == null ? [] : [local.key_arn], tolist(var.encryption.extra_key_arns))

  policies = {
    for name, row in local.functions : name => merge(
      {
        ReadSecrets = {
          actions = ["secretsmanager:GetSecretValue"]
          # the control plane also reads the secrets that it fills, to see what they hold
          resources  = distinct(concat([for secret in values(local.function_secrets[name]) : local.secret_arns[secret]], name == "control_plane" ? values(local.provisioned_secrets) : []))
          conditions = {}
        }
      },
      length(local.kms_key_arns) == 0 ? {} : {
        Decrypt = { actions = ["kms:Decrypt"], resources = local.kms_key_arns, conditions = {} }
      },
      length(local.kms_key_arns) == 0 || row.role == "gateway" ? {} : {
        Encrypt = { actions = ["kms:GenerateDataKey"], resources = local.kms_key_arns, conditions = {} }
      },
      length(local.target_queues[name]) == 0 ? {} : {
        SendToQueues = { actions = ["sqs:SendMessage"], resources = [for queue in local.target_queues[name] : module.queue[queue].arn], conditions = {} }
      },
      !contains(keys(local.queue_names), name) ? {} : {
        ReceiveFromQueue = {
          actions    = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
          resources  = [module.queue[local.queue_names[name]].arn]
          conditions = {}
        }
      },
      !contains(keys(local.schedule_seconds), name) ? {} : {
        SendDeadLetters = { actions = ["sqs:SendMessage"], resources = [module.queue[local.queue_names[name]].dead_arn], conditions = {} }
      },
      !local.calls_control_plane[name] ? {} : {
        InvokeControlPlane = { actions = ["lambda:InvokeFunction"], resources = ["${local.function_arns["control_plane"]}:live"], conditions = {} }
      },
      name != "control_plane" ? {} : {
        WriteSecrets = { actions = ["secretsmanager:PutSecretValue"], resources = values(local.provisioned_secrets), conditions = {} }
        RotateTokens = {
          actions    = ["secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"]
          resources  = local.rotated_secret_arns
          conditions = {}
        }
      },
      !(local.iam_auth && contains(row.secrets, "database_url")) ? {} : {
        ConnectToDatabase = { actions = ["rds-db:connect"], resources = row.role == "worker" ? local.database.worker_connect_arns : local.database.connect_arns, conditions = {} }
      },
      contains(row.settings, "result_url") ? lookup(local.result_statements, row.role, {}) : {},
    )
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

  name        = local.function_names[each.key]
  description = "NoETL: ${replace(each.key, "_", " ")}"
  partition   = local.account.partition
  environment = local.environment[each.key]
  policy      = local.policies[each.key]
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
  queue = !contains(keys(local.queue_names), each.key) ? null : {
    arn = module.queue[local.queue_names[each.key]].arn
    # for a pool, each message is one invocation of a worker; messages to the other functions repeat each other
    batch_size      = coalesce(try(var.functions[each.key].batch_size, null), each.value.pool == null ? 10 : 1)
    max_concurrency = each.value.max_instances == null ? null : max(2, each.value.max_instances)
  }
  schedule = !contains(keys(local.schedule_seconds), each.key) ? null : {
    every_minutes = max(1, ceil(local.schedule_seconds[each.key] / 60))
    input         = jsonencode({ noetl = "tick" })
    dead_arn      = module.queue[local.queue_names[each.key]].dead_arn
    kms_key_arn   = local.key_arn
  }

  depends_on = [aws_lambda_invocation.migrate]
}

# ---- HTTP APIs for callers from outside

module "api" {
  source = "../modules/aws/api"
  for_each = {
    for name, row in local.functions : name => row
    if anytrue([for trigger in row.triggers : trigger.kind == "http" && (try(trigger.public, false) || var.http.control_plane)])
  }

  name     = local.function_names[each.key]
  log      = local.log
  throttle = { rate = var.http.rate, burst = var.http.burst }
  cors     = each.key == "gateway" && var.http.cors_origins != null ? { origins = var.http.cors_origins } : null
  function = {
    name       = local.function_names[each.key]
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
