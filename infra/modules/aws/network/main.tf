# A new VPC with private subnets and endpoints for the AWS services that the functions need, or an existing VPC.

locals {
  create             = var.existing == null
  zones              = local.create ? slice(data.aws_availability_zones.here[0].names, 0, var.vpc.zones) : []
  create_public      = local.create && var.vpc.nat != "none"
  nat_zones          = !local.create_public ? [] : var.vpc.nat == "each" ? local.zones : slice(local.zones, 0, 1)
  vpc_id             = local.create ? aws_vpc.this[0].id : var.existing.vpc_id
  cidr               = local.create ? var.vpc.cidr : data.aws_vpc.existing[0].cidr_block
  private_subnet_ids = local.create ? [for zone in local.zones : aws_subnet.private[zone].id] : var.existing.subnet_ids
}

data "aws_availability_zones" "here" {
  # checkov:skip=CKV_AWS_394: only the first vpc.zones zones by name are used: a new zone comes last and changes nothing
  count = local.create ? 1 : 0
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_vpc" "existing" {
  count = local.create ? 0 : 1
  id    = var.existing.vpc_id
}

# a flow log is the choice of those who monitor the account's networks
#trivy:ignore:AWS-0178
resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11: a flow log is the choice of those who monitor the account's networks; it costs more than the idle engine
  count = local.create ? 1 : 0

  cidr_block           = var.vpc.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# nothing uses it, so it allows no traffic
resource "aws_default_security_group" "closed" {
  count = local.create ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.name}-closed" }
}

resource "aws_subnet" "private" {
  for_each = toset(local.zones)

  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc.cidr, 4, index(local.zones, each.key))
  tags              = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route_table" "private" {
  for_each = toset(local.zones)

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route_table_association" "private" {
  for_each = toset(local.zones)

  route_table_id = aws_route_table.private[each.key].id
  subnet_id      = aws_subnet.private[each.key].id
}

# ---- internet access, if enabled

resource "aws_internet_gateway" "this" {
  count = local.create_public ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each = toset(local.nat_zones)

  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc.cidr, 4, 8 + index(local.zones, each.key))
  tags              = { Name = "${var.name}-public-${each.key}" }
}

resource "aws_route_table" "public" {
  count = local.create_public ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.name}-public" }
}

resource "aws_route" "out" {
  count = local.create_public ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  for_each = toset(local.nat_zones)

  route_table_id = aws_route_table.public[0].id
  subnet_id      = aws_subnet.public[each.key].id
}

resource "aws_eip" "nat" {
  # checkov:skip=CKV2_AWS_19: it belongs to the NAT gateway below
  for_each = toset(local.nat_zones)

  domain = "vpc"
  tags   = { Name = "${var.name}-nat-${each.key}" }
}

resource "aws_nat_gateway" "this" {
  for_each = toset(local.nat_zones)

  allocation_id = aws_eip.nat[each.key].allocation_id
  subnet_id     = aws_subnet.public[each.key].id
  tags          = { Name = "${var.name}-${each.key}" }

  depends_on = [aws_route.out]
}

resource "aws_route" "nat" {
  for_each = local.create_public ? toset(local.zones) : toset([])

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[var.vpc.nat == "each" ? each.key : local.zones[0]].id
}

# ---- access to AWS services

resource "aws_vpc_endpoint" "s3" {
  count = local.create ? 1 : 0

  vpc_id            = aws_vpc.this[0].id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${var.region}.s3"
  route_table_ids   = [for zone in local.zones : aws_route_table.private[zone].id]
  tags              = { Name = "${var.name}-s3" }
}

resource "aws_security_group" "endpoints" {
  count = local.create && length(var.vpc.endpoints) > 0 ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "Endpoints of AWS services: HTTPS from inside of the VPC"
  vpc_id      = aws_vpc.this[0].id
  tags        = { Name = "${var.name}-endpoints" }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = length(aws_security_group.endpoints)

  security_group_id = aws_security_group.endpoints[0].id
  description       = "HTTPS from the VPC"
  cidr_ipv4         = var.vpc.cidr
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_endpoint" "service" {
  for_each = local.create ? var.vpc.endpoints : toset([])

  vpc_id              = aws_vpc.this[0].id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  private_dns_enabled = true
  subnet_ids          = local.private_subnet_ids
  security_group_ids  = [aws_security_group.endpoints[0].id]
  tags                = { Name = "${var.name}-${each.key}" }
}

# ---- the functions

resource "aws_security_group" "functions" {
  # checkov:skip=CKV2_AWS_5: the functions' interfaces use it, in another module
  name        = "${var.name}-functions"
  description = "The functions: nobody reaches them, they reach what a rule names"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.name}-functions" }
}

resource "aws_security_group" "database_clients" {
  # checkov:skip=CKV2_AWS_5: the interfaces of some functions use it, in another module
  name        = "${var.name}-database-clients"
  description = "The functions that may reach the database"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.name}-database-clients" }
}

# only the ports that the deployment names; the addresses depend on the playbooks
#trivy:ignore:AWS-0104
resource "aws_vpc_security_group_egress_rule" "functions" {
  for_each = { for port in var.vpc.egress_ports : tostring(port) => port }

  security_group_id = aws_security_group.functions.id
  description       = "AWS services, and what playbooks call"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}
