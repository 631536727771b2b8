# NATS with JetStream: a cluster of Fargate tasks, each with its own folder on a volume that outlives it, TLS for clients and routes.

locals {
  hosts          = toset(var.hosts)
  host_names     = [for host in var.hosts : "${host}.${var.domain}"]
  client_port    = 4222
  route_port     = 6222
  nfs_port       = 2049
  user_id        = 1000
  run_directory  = "/run/nats"
  data_directory = "/data"
  # secrets arrive as environment variables and become files that only the server reads
  start_script = <<-EOT
    umask 077
    printf '%s' "$NATS_CA" > ${local.run_directory}/ca.pem
    printf '%s' "$NATS_CERTIFICATE" > ${local.run_directory}/certificate.pem
    printf '%s' "$NATS_KEY" > ${local.run_directory}/key.pem
    printf '%s' "$NATS_CONFIG" > ${local.run_directory}/nats.conf
    unset NATS_KEY
    exec nats-server --config ${local.run_directory}/nats.conf
  EOT
  # arn:aws:secretsmanager:<region>:<account>:secret:...
  account   = split(":", var.secrets.server_arn)[4]
  partition = split(":", var.secrets.server_arn)[1]
  # <account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>
  ecr_image          = regexall("^([0-9]{12})\\.dkr\\.ecr\\.([a-z0-9-]+)\\.amazonaws\\.com/([^:@]+)", var.nodes.image)
  ecr_repository_arn = length(local.ecr_image) == 0 ? null : "arn:${local.partition}:ecr:${local.ecr_image[0][1]}:${local.ecr_image[0][0]}:repository/${local.ecr_image[0][2]}"
}

# ---- DNS names

resource "aws_service_discovery_private_dns_namespace" "this" {
  name        = var.domain
  description = "Nodes of ${var.name}"
  vpc         = var.network.vpc_id
}

resource "aws_service_discovery_service" "node" {
  for_each = local.hosts

  name        = each.key
  description = "Node ${each.key} of ${var.name}"

  dns_config {
    namespace_id   = aws_service_discovery_private_dns_namespace.this.id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      ttl  = 5
    }
  }
}

# ---- security groups

resource "aws_security_group" "nodes" {
  name        = "${var.name}-nodes"
  description = "NATS: clients are the functions, routes are among the nodes"
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-nodes" }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "NATS from the functions"
  referenced_security_group_id = var.network.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.client_port
  to_port                      = local.client_port
}

resource "aws_vpc_security_group_egress_rule" "clients" {
  security_group_id            = var.network.client_security_group_id
  description                  = "NATS"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = local.client_port
  to_port                      = local.client_port
}

resource "aws_vpc_security_group_ingress_rule" "routes" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "Routes from the other nodes"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = local.route_port
  to_port                      = local.route_port
}

resource "aws_vpc_security_group_egress_rule" "routes" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "Routes to the other nodes"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = local.route_port
  to_port                      = local.route_port
}

resource "aws_vpc_security_group_egress_rule" "volumes" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "NFS to the volumes"
  referenced_security_group_id = aws_security_group.volumes.id
  ip_protocol                  = "tcp"
  from_port                    = local.nfs_port
  to_port                      = local.nfs_port
}

# HTTPS to endpoints and registries, whose addresses are not known in advance
#trivy:ignore:AWS-0104
resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.nodes.id
  description       = "AWS services: image, secret and log"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_security_group" "volumes" {
  name        = "${var.name}-volumes"
  description = "The nodes' volumes"
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-volumes" }
}

resource "aws_vpc_security_group_ingress_rule" "volumes" {
  security_group_id            = aws_security_group.volumes.id
  description                  = "NFS from the nodes"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = local.nfs_port
  to_port                      = local.nfs_port
}

# ---- volumes

resource "aws_efs_file_system" "this" {
  # checkov:skip=CKV_AWS_184: encrypted with EFS's own key unless the deployment has one
  encrypted       = true
  kms_key_id      = var.kms_key_arn
  throughput_mode = "elastic"
  tags            = { Name = var.name }
}

resource "aws_efs_backup_policy" "this" {
  file_system_id = aws_efs_file_system.this.id

  backup_policy {
    # messages in NATS are notifications that can be lost; the event log is in PostgreSQL
    status = "DISABLED"
  }
}

resource "aws_efs_mount_target" "this" {
  count = length(var.network.subnet_ids)

  file_system_id  = aws_efs_file_system.this.id
  subnet_id       = var.network.subnet_ids[count.index]
  security_groups = [aws_security_group.volumes.id]
}

resource "aws_efs_access_point" "node" {
  for_each = local.hosts

  file_system_id = aws_efs_file_system.this.id
  tags           = { Name = "${var.name}-${each.key}" }

  posix_user {
    uid = local.user_id
    gid = local.user_id
  }

  root_directory {
    path = "/${each.key}"

    creation_info {
      owner_uid   = local.user_id
      owner_gid   = local.user_id
      permissions = "0700"
    }
  }
}

resource "aws_efs_file_system_policy" "this" {
  file_system_id = aws_efs_file_system.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "MountFromNodes"
        Effect    = "Allow"
        Principal = { AWS = aws_iam_role.task.arn }
        Action    = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
        Resource  = aws_efs_file_system.this.arn
        Condition = { Bool = { "elasticfilesystem:AccessedViaMountTarget" = "true" } }
      },
      {
        Sid       = "DenyInsecureTransport"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
        Resource  = aws_efs_file_system.this.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

# ---- roles

locals {
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-node"
  description        = "Lets a node of ${var.name} write its own folder"
  assume_role_policy = local.assume_role_policy
}

resource "aws_iam_role_policy" "task" {
  name = "volume"
  role = aws_iam_role.task.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "MountVolume"
      Effect   = "Allow"
      Action   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
      Resource = [aws_efs_file_system.this.arn]
      Condition = {
        StringEquals = { "elasticfilesystem:AccessPointArn" = [for host in var.hosts : aws_efs_access_point.node[host].arn] }
      }
    }]
  })
}

resource "aws_iam_role" "start" {
  name               = "${var.name}-start"
  description        = "Lets ECS start a node of ${var.name}: image, secret, log"
  assume_role_policy = local.assume_role_policy
}

resource "aws_iam_role_policy" "start" {
  # checkov:skip=CKV_AWS_355: a registry token is not limited to one repository, so there is no narrower resource
  name = "start"
  role = aws_iam_role.start.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "ReadSecrets"
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = [var.secrets.password_arn, var.secrets.server_arn]
        },
        {
          Sid      = "WriteLogs"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = ["${aws_cloudwatch_log_group.this.arn}:log-stream:*"]
        },
      ],
      var.kms_key_arn == null ? [] : [{
        Sid      = "Decrypt"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.kms_key_arn]
      }],
      local.ecr_repository_arn == null ? [] : [
        {
          Sid      = "PullImage"
          Effect   = "Allow"
          Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = [local.ecr_repository_arn]
        },
        {
          Sid      = "GetRegistryToken"
          Effect   = "Allow"
          Action   = ["ecr:GetAuthorizationToken"]
          Resource = ["*"]
        },
      ],
    )
  })
}

# ---- nodes

resource "aws_cloudwatch_log_group" "this" {
  # checkov:skip=CKV_AWS_338: log retention is a setting of the deployment; a year is seldom worth its price
  # checkov:skip=CKV_AWS_158: encrypted with the deployment's key if it has one
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_task_definition" "node" {
  for_each = local.hosts

  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = tostring(var.nodes.cpu)
  memory                   = tostring(var.nodes.memory_mb)
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.start.arn

  runtime_platform {
    cpu_architecture        = var.nodes.architecture
    operating_system_family = "LINUX"
  }

  volume {
    name = "run"
  }

  volume {
    name = "data"

    efs_volume_configuration {
      file_system_id     = aws_efs_file_system.this.id
      transit_encryption = "ENABLED"

      authorization_config {
        access_point_id = aws_efs_access_point.node[each.key].id
        iam             = "ENABLED"
      }
    }
  }

  container_definitions = jsonencode([{
    name                   = "nats"
    image                  = var.nodes.image
    essential              = true
    entryPoint             = ["sh", "-c"]
    command                = [local.start_script]
    readonlyRootFilesystem = true
    stopTimeout            = 60
    portMappings = [
      { containerPort = local.client_port, protocol = "tcp" },
      { containerPort = local.route_port, protocol = "tcp" },
    ]
    environment = [{
      name = "NATS_CONFIG"
      value = templatefile("${path.module}/../../nats.conf.tftpl", {
        name       = var.name
        user       = var.user
        node       = each.key
        run        = local.run_directory
        data       = local.data_directory
        memory_mb  = floor(var.nodes.memory_mb / 4)
        storage_gb = var.nodes.storage_gb
        hosts      = local.host_names
      })
    }]
    secrets = [
      { name = "NATS_PASSWORD", valueFrom = var.secrets.password_arn },
      { name = "NATS_CA", valueFrom = "${var.secrets.server_arn}:ca::" },
      { name = "NATS_CERTIFICATE", valueFrom = "${var.secrets.server_arn}:certificate::" },
      { name = "NATS_KEY", valueFrom = "${var.secrets.server_arn}:key::" },
    ]
    mountPoints = [
      { sourceVolume = "run", containerPath = local.run_directory, readOnly = false },
      { sourceVolume = "data", containerPath = local.data_directory, readOnly = false },
    ]
    healthCheck = {
      # checks this node alone: a node that waits for the others must not be killed for it
      command     = ["CMD-SHELL", "wget -q -O /dev/null 'http://127.0.0.1:8222/healthz?js-enabled-only=true' || exit 1"]
      interval    = 10
      retries     = 3
      startPeriod = 30
      timeout     = 5
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.this.name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = each.key
      }
    }
  }])
}

resource "aws_ecs_service" "node" {
  for_each = local.hosts

  name            = each.key
  cluster         = aws_ecs_cluster.this.arn
  task_definition = aws_ecs_task_definition.node[each.key].arn
  launch_type     = "FARGATE"
  desired_count   = 1
  # the old task releases the folder before the new one uses it
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = [var.network.subnet_ids[index(var.hosts, each.key) % length(var.network.subnet_ids)]]
    security_groups  = [aws_security_group.nodes.id]
    assign_public_ip = false
  }

  service_registries {
    registry_arn = aws_service_discovery_service.node[each.key].arn
  }

  depends_on = [
    aws_efs_mount_target.this,
    aws_iam_role_policy.start,
    aws_iam_role_policy.task,
  ]
}
