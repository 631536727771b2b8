# PostgreSQL, as one RDS instance or as Aurora Serverless v2; RDS itself creates, stores and rotates the password.

locals {
  aurora      = var.engine.kind == "aurora"
  user        = "noetl"
  database    = "noetl"
  worker_role = "${local.database}_worker"
  port        = 5432
  family      = split(".", var.engine.version)[0]
  log_exports = ["postgresql"]
  secret_arn  = local.aurora ? aws_rds_cluster.this[0].master_user_secret[0].secret_arn : aws_db_instance.this[0].master_user_secret[0].secret_arn
  host        = local.aurora ? aws_rds_cluster.this[0].endpoint : aws_db_instance.this[0].address
  # pg_stat_statements is available, TLS is required, and statements that take a second or more are logged
  parameters = {
    "rds.force_ssl"              = "1"
    "log_min_duration_statement" = "1000"
    "log_statement"              = "ddl"
  }
}

resource "aws_db_subnet_group" "this" {
  name        = var.name
  description = "Subnets of the database ${var.name}"
  subnet_ids  = var.network.subnet_ids
}

resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "PostgreSQL, for the functions or their proxy"
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-database" }
}

locals {
  # what the functions connect to, and what connects to the database: both are the proxy if there is one
  endpoint_security_group_id = var.proxy.enabled ? aws_security_group.proxy[0].id : aws_security_group.database.id
  client_security_group_id   = var.proxy.enabled ? aws_security_group.proxy[0].id : var.network.client_security_group_id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  description                  = "PostgreSQL"
  referenced_security_group_id = local.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "functions" {
  security_group_id            = var.network.client_security_group_id
  description                  = "PostgreSQL"
  referenced_security_group_id = local.endpoint_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

# ---- one instance

resource "aws_db_parameter_group" "this" {
  count = local.aurora ? 0 : 1

  name        = var.name
  description = "Of the database ${var.name}"
  family      = "postgres${local.family}"

  dynamic "parameter" {
    for_each = local.parameters
    content {
      name         = parameter.key
      value        = parameter.value
      apply_method = "immediate"
    }
  }
}

# functions authenticate by role through the proxy; RDS manages and rotates the password
#trivy:ignore:AWS-0176
resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_133: backups are kept for protection.backup_days, at least one
  # checkov:skip=CKV_AWS_118: enhanced monitoring is billed per instance; the alarms use the standard metrics of CloudWatch
  # checkov:skip=CKV_AWS_353: performance insights are for tuning a database, not for every deployment
  # checkov:skip=CKV_AWS_354: as above
  # checkov:skip=CKV_AWS_157: there is a standby by default
  # checkov:skip=CKV_AWS_161: functions authenticate by role through the proxy; RDS manages and rotates the password
  # checkov:skip=CKV_AWS_293: protected by default
  # checkov:skip=CKV2_AWS_30: log_statement is ddl, not all: statements contain the workloads of playbooks
  count = local.aurora ? 0 : 1

  identifier                      = var.name
  engine                          = "postgres"
  engine_version                  = var.engine.version
  instance_class                  = var.engine.instance_class
  allocated_storage               = var.engine.storage_gb
  max_allocated_storage           = var.engine.max_storage_gb
  storage_type                    = "gp3"
  storage_encrypted               = true
  kms_key_id                      = var.kms_key_arn
  multi_az                        = var.engine.multi_az
  db_name                         = local.database
  username                        = local.user
  manage_master_user_password     = true
  master_user_secret_kms_key_id   = var.kms_key_arn
  port                            = local.port
  publicly_accessible             = false
  db_subnet_group_name            = aws_db_subnet_group.this.name
  vpc_security_group_ids          = [aws_security_group.database.id]
  parameter_group_name            = aws_db_parameter_group.this[0].name
  backup_retention_period         = var.protection.backup_days
  copy_tags_to_snapshot           = true
  deletion_protection             = var.protection.protected
  skip_final_snapshot             = !var.protection.final_snapshot
  final_snapshot_identifier       = var.protection.final_snapshot ? "${var.name}-final" : null
  auto_minor_version_upgrade      = true
  enabled_cloudwatch_logs_exports = local.log_exports
}

# ---- Aurora Serverless v2

resource "aws_rds_cluster_parameter_group" "this" {
  count = local.aurora ? 1 : 0

  name        = var.name
  description = "Of the database ${var.name}"
  family      = "aurora-postgresql${local.family}"

  dynamic "parameter" {
    for_each = local.parameters
    content {
      name         = parameter.key
      value        = parameter.value
      apply_method = "immediate"
    }
  }
}

resource "aws_rds_cluster" "this" {
  # checkov:skip=CKV_AWS_133: backups are kept for protection.backup_days, at least one
  # checkov:skip=CKV_AWS_162: functions authenticate by role through the proxy; RDS manages and rotates the password
  # checkov:skip=CKV_AWS_139: protected by default
  # checkov:skip=CKV2_AWS_8: Aurora's own backups are kept for protection.backup_days
  # checkov:skip=CKV2_AWS_27: log_statement is ddl, not all: statements contain the workloads of playbooks
  # checkov:skip=CKV_AWS_327: encrypted with RDS's own key unless the deployment has one
  count = local.aurora ? 1 : 0

  cluster_identifier              = var.name
  engine                          = "aurora-postgresql"
  engine_mode                     = "provisioned"
  engine_version                  = var.engine.version
  database_name                   = local.database
  master_username                 = local.user
  manage_master_user_password     = true
  master_user_secret_kms_key_id   = var.kms_key_arn
  port                            = local.port
  storage_encrypted               = true
  kms_key_id                      = var.kms_key_arn
  db_subnet_group_name            = aws_db_subnet_group.this.name
  vpc_security_group_ids          = [aws_security_group.database.id]
  db_cluster_parameter_group_name = aws_rds_cluster_parameter_group.this[0].name
  backup_retention_period         = var.protection.backup_days
  copy_tags_to_snapshot           = true
  deletion_protection             = var.protection.protected
  skip_final_snapshot             = !var.protection.final_snapshot
  final_snapshot_identifier       = var.protection.final_snapshot ? "${var.name}-final" : null
  enabled_cloudwatch_logs_exports = local.log_exports

  serverlessv2_scaling_configuration {
    min_capacity             = var.engine.min_acu
    max_capacity             = var.engine.max_acu
    seconds_until_auto_pause = var.engine.min_acu == 0 ? var.engine.pause_s : null
  }
}

resource "aws_rds_cluster_instance" "this" {
  # checkov:skip=CKV_AWS_118: enhanced monitoring is billed per instance; the alarms use the standard metrics of CloudWatch
  # checkov:skip=CKV_AWS_353: performance insights are for tuning a database, not for every deployment
  # checkov:skip=CKV_AWS_354: as above
  count = local.aurora ? 1 + var.engine.readers : 0

  identifier                 = "${var.name}-${count.index}"
  cluster_identifier         = aws_rds_cluster.this[0].cluster_identifier
  engine                     = aws_rds_cluster.this[0].engine
  engine_version             = aws_rds_cluster.this[0].engine_version
  instance_class             = "db.serverless"
  db_subnet_group_name       = aws_db_subnet_group.this.name
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
}

# ---- RDS Proxy

resource "aws_security_group" "proxy" {
  # checkov:skip=CKV2_AWS_5: the proxy below uses it
  count = var.proxy.enabled ? 1 : 0

  name        = "${var.name}-proxy"
  description = "The pooler between the functions and the database"
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-proxy" }
}

resource "aws_vpc_security_group_ingress_rule" "proxy" {
  count = var.proxy.enabled ? 1 : 0

  security_group_id            = aws_security_group.proxy[0].id
  description                  = "PostgreSQL from the functions"
  referenced_security_group_id = var.network.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "proxy" {
  count = var.proxy.enabled ? 1 : 0

  security_group_id            = aws_security_group.proxy[0].id
  description                  = "PostgreSQL to the database"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_iam_role" "proxy" {
  count = var.proxy.enabled ? 1 : 0

  name        = "${var.name}-proxy"
  description = "Lets the RDS Proxy of ${var.name} read the database's passwords"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "rds.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "proxy" {
  count = var.proxy.enabled ? 1 : 0

  name = "secret"
  role = aws_iam_role.proxy[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "ReadPassword"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = concat([local.secret_arn], var.worker == null ? [] : [var.worker.secret_arn])
      }],
      var.kms_key_arn == null ? [] : [{
        Sid      = "Decrypt"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.kms_key_arn]
      }],
    )
  })
}

resource "aws_db_proxy" "this" {
  count = var.proxy.enabled ? 1 : 0

  name                   = var.name
  engine_family          = "POSTGRESQL"
  role_arn               = aws_iam_role.proxy[0].arn
  require_tls            = true
  idle_client_timeout    = var.proxy.idle_s
  vpc_subnet_ids         = var.network.subnet_ids
  vpc_security_group_ids = [aws_security_group.proxy[0].id]

  auth {
    auth_scheme = "SECRETS"
    iam_auth    = var.proxy.iam ? "REQUIRED" : "DISABLED"
    secret_arn  = local.secret_arn
  }

  dynamic "auth" {
    for_each = var.worker == null ? [] : [var.worker.secret_arn]
    content {
      auth_scheme = "SECRETS"
      iam_auth    = var.proxy.iam ? "REQUIRED" : "DISABLED"
      secret_arn  = auth.value
    }
  }

  depends_on = [aws_iam_role_policy.proxy]
}

resource "aws_db_proxy_default_target_group" "this" {
  count = var.proxy.enabled ? 1 : 0

  db_proxy_name = aws_db_proxy.this[0].name

  connection_pool_config {
    max_connections_percent      = var.proxy.max_connections_pct
    max_idle_connections_percent = 50
    connection_borrow_timeout    = 30
  }
}

resource "aws_db_proxy_target" "this" {
  count = var.proxy.enabled ? 1 : 0

  db_proxy_name          = aws_db_proxy.this[0].name
  target_group_name      = aws_db_proxy_default_target_group.this[0].name
  db_instance_identifier = local.aurora ? null : aws_db_instance.this[0].identifier
  db_cluster_identifier  = local.aurora ? aws_rds_cluster.this[0].cluster_identifier : null
}

locals {
  # arn:<partition>:rds:<region>:<account>:db-proxy:<id>
  proxy_arn = split(":", one(aws_db_proxy.this[*].arn) == null ? "" : aws_db_proxy.this[0].arn)
  connect_prefixes = var.proxy.iam ? [
    join(":", [local.proxy_arn[0], local.proxy_arn[1], "rds-db", local.proxy_arn[3], local.proxy_arn[4], "dbuser", local.proxy_arn[6]])
  ] : []
}
