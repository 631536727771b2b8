# The infrastructure that the functions share. The functions themselves are in functions.tf.

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

locals {
  account = {
    id        = data.aws_caller_identity.this.account_id
    region    = var.region
    partition = data.aws_partition.this.partition
  }
  # bucket names are globally unique, so they contain the account and the region
  bucket_suffix = "${local.account.id}-${var.region}"
  key_arn       = var.encryption.key_arn != null ? var.encryption.key_arn : one(module.key[*].arn)
  # an emulator may not support TLS, and then nothing may require it
  tls_only = var.endpoint_url == null || startswith(coalesce(var.endpoint_url, "https"), "https")
  log      = { retention_days = var.observability.log_retention_days, kms_key_arn = local.key_arn }
}

module "key" {
  source = "../modules/aws/key"
  count  = var.encryption.create && var.encryption.key_arn == null ? 1 : 0

  name          = var.name
  account       = local.account
  deletion_days = var.encryption.deletion_days
}

module "network" {
  source = "../modules/aws/network"

  name     = var.name
  region   = var.region
  existing = var.network.existing
  vpc = {
    cidr  = var.network.cidr
    zones = var.network.zones
    nat   = var.network.nat
    # the NATS nodes pull their image, read their secret and write their log from the functions' subnets
    endpoints = setunion(
      var.network.endpoints,
      var.nats.cluster != null && var.network.nat == "none" ? ["ecr.api", "ecr.dkr", "logs"] : [],
    )
    egress_ports = var.network.egress_ports
  }
}

# ---- the event store

module "database" {
  source = "../modules/aws/database"
  count  = var.database.existing == null ? 1 : 0

  name        = var.name
  kms_key_arn = local.key_arn
  engine = {
    kind           = var.database.kind
    version        = var.database.version
    instance_class = var.database.instance_class
    storage_gb     = var.database.storage_gb
    max_storage_gb = var.database.max_storage_gb
    multi_az       = var.database.multi_az
    min_acu        = var.database.min_acu
    max_acu        = var.database.max_acu
    pause_s        = var.database.pause_s
    readers        = var.database.readers
  }
  network = {
    vpc_id                   = module.network.vpc_id
    subnet_ids               = module.network.subnet_ids
    client_security_group_id = module.network.database_clients_security_group_id
  }
  protection = {
    backup_days    = var.database.backup_days
    protected      = var.database.protected
    final_snapshot = var.database.final_snapshot
  }
  proxy = {
    enabled             = var.database.proxy
    iam                 = var.database.proxy && var.database.auth == "iam"
    max_connections_pct = var.database.max_connections_pct
  }
  worker = length(local.direct) == 0 ? null : { secret_arn = module.secrets.arns["database_role"] }
}

resource "aws_vpc_security_group_egress_rule" "database" {
  count = var.database.existing == null ? 0 : 1

  security_group_id = module.network.database_clients_security_group_id
  description       = "Existing PostgreSQL"
  cidr_ipv4         = coalesce(var.database.existing.cidr, module.network.cidr)
  ip_protocol       = "tcp"
  from_port         = var.database.existing.port
  to_port           = var.database.existing.port
}

locals {
  iam_auth = var.database.auth == "iam"
  database = var.database.existing != null ? {
    url                 = var.database.existing.url
    secret_arn          = local.iam_auth ? null : var.database.existing.secret_arn
    connect_arns        = var.database.existing.resource_arns
    worker_role         = module.table.worker.role
    worker_url          = module.table.worker.url
    worker_connect_arns = var.database.existing.worker_resource_arns
    } : {
    url                 = "postgresql://${module.database[0].user}@${local.created_place}"
    secret_arn          = local.iam_auth ? null : module.database[0].secret_arn
    connect_arns        = module.database[0].connect_arns
    worker_role         = module.database[0].worker_role
    worker_url          = "postgresql://${module.database[0].worker_role}@${local.created_place}"
    worker_connect_arns = module.database[0].worker_connect_arns
  }
  created_place = var.database.existing != null ? "" : format(
    "%s:%d/%s?sslmode=require", module.database[0].host, module.database[0].port, module.database[0].database,
  )
}

# ---- NATS

locals {
  nats_domain = "${var.name}.internal"
  nats_nodes  = var.nats.cluster == null ? [] : [for number in range(var.nats.cluster.count) : "nats-${number + 1}"]
  nats_hosts  = [for node in local.nats_nodes : "${node}.${local.nats_domain}"]
  # a stream survives the loss of a node only if other nodes hold it too
  nats_replicas = var.nats.cluster != null ? min(3, var.nats.cluster.count) : try(var.nats.existing.replicas, 1)
  # "nats_server/<host>,<host>" names the hosts for which the control plane issues the certificate
  nats_server_secret = "nats_server/${join(",", local.nats_hosts)}"
}

module "nats" {
  source = "../modules/aws/nats"
  count  = var.nats.cluster == null ? 0 : 1

  name               = "${var.name}-nats"
  region             = var.region
  nodes              = var.nats.cluster
  hosts              = local.nats_nodes
  domain             = local.nats_domain
  kms_key_arn        = local.key_arn
  log_retention_days = var.observability.log_retention_days
  network = {
    vpc_id                   = module.network.vpc_id
    subnet_ids               = module.network.subnet_ids
    client_security_group_id = module.network.functions_security_group_id
  }
  secrets = {
    password_arn = module.secrets.arns["nats_password"]
    server_arn   = module.secrets.arns["nats_server"]
  }

  # the nodes need a password and certificates, which the control plane creates when it migrates
  depends_on = [aws_lambda_invocation.migrate]
}

resource "aws_vpc_security_group_egress_rule" "nats" {
  count = var.nats.existing == null ? 0 : 1

  security_group_id = module.network.functions_security_group_id
  description       = "Existing NATS"
  cidr_ipv4         = coalesce(var.nats.existing.cidr, module.network.cidr)
  ip_protocol       = "tcp"
  from_port         = var.nats.existing.port
  to_port           = var.nats.existing.port
}

# ---- secrets

locals {
  service_roles = ["control_plane", "gateway", "operator", "reconciler", "worker"]
  secrets = merge(
    {
      token_key       = { name = "${var.name}/token_key", description = "Signs service tokens; only the control plane reads it" }
      encryption_keys = { name = "${var.name}/encryption_keys", description = "Encrypt credentials in the database; only the control plane reads them" }
    },
    { for role in local.service_roles : "service_token/${role}" => {
      name        = "${var.name}/service_token/${role}"
      description = "Token that a caller in the role ${role} presents to the control plane"
    } },
    var.nats.cluster == null ? {} : {
      nats_password = { name = "${var.name}/nats_password", description = "Password of the NATS user that the functions connect as" }
      nats_server   = { name = "${var.name}/nats_server", description = "Certificates and key of the NATS nodes" }
      nats_ca       = { name = "${var.name}/nats_ca", description = "Certificate authority of the NATS nodes" }
    },
    # an existing database that knows IAM roles needs no password
    length(local.direct) == 0 || (local.iam_auth && var.database.existing != null) ? {} : {
      database_role = { name = "${var.name}/database_role", description = "Password of the database role of direct workers" }
    },
  )
  # the role is known before the database is created
  database_role_secret = "database_role/${var.database.existing == null ? "noetl_worker" : module.table.worker.role}"
}

module "secrets" {
  source = "../modules/aws/secrets"

  secrets       = local.secrets
  recovery_days = var.secrets.recovery_days
  kms_key_arn   = local.key_arn
}

# ---- buckets

module "results" {
  source = "../modules/aws/bucket"
  count  = var.results.existing == null ? 1 : 0

  name          = "${var.name}-results-${local.bucket_suffix}"
  versioned     = var.results.versioned
  expiry        = { prefix = "results/", days = var.results.expire_days == 0 ? null : var.results.expire_days }
  tls_only      = local.tls_only
  kms_key_arn   = local.key_arn
  force_destroy = var.results.force_destroy
}

module "code" {
  source = "../modules/aws/bucket"

  name        = "${var.name}-code-${local.bucket_suffix}"
  versioned   = false
  tls_only    = local.tls_only
  kms_key_arn = local.key_arn
  # it holds only packages, which `make package` can build again
  force_destroy = true
}

locals {
  result_bucket = {
    name = var.results.existing != null ? var.results.existing : module.results[0].name
    arn  = "arn:${local.account.partition}:s3:::${var.results.existing != null ? var.results.existing : module.results[0].name}"
  }
}

# ---- monitoring

module "observability" {
  source = "../modules/aws/observability"

  name   = var.name
  region = var.region
  functions = {
    for name, row in local.functions : name => {
      name      = row.full_name
      timeout_s = row.timeout_s
      # a failed rotation is a single error, and days later the token is refused
      error_minutes = name == "control_plane" ? 1 : 3
    }
  }
  queues             = { for name, queue in module.queue : name => { name = queue.name, dead_name = queue.dead_name } }
  scheduled_function = { name = local.functions["reconciler"].full_name, late_minutes = var.observability.late_minutes }
  database           = one(module.database[*].identifier)
  dashboard          = var.observability.dashboard
  budget             = var.budget
  kms_key_arn        = local.key_arn
  alarms = {
    topic_arn = var.observability.topic_arn
    emails    = var.observability.emails
    waiting_s = var.observability.waiting_s
  }
}
