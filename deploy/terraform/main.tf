# The shared exporter and its Redis in a Kubernetes cluster: the same as deploy/kubernetes, for Terraform.
# The applications need only REDIS_ENABLED, REDIS_HOST and REDIS_PASSWORD.

terraform {
  required_version = ">= 1.5"
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 2.30"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }
}

variable "namespace" {
  description = "Where Redis and the exporter run."
  type        = string
  default     = "metrics"
}

variable "exporter_image" {
  description = "Image of deploy/docker/Dockerfile (target exporter), in your registry."
  type        = string
}

resource "random_password" "redis" {
  length  = 48
  special = false
}

resource "kubernetes_namespace_v1" "metrics" {
  metadata {
    name = var.namespace
  }
}

resource "kubernetes_secret_v1" "redis" {
  metadata {
    name      = "metrics-redis"
    namespace = kubernetes_namespace_v1.metrics.metadata[0].name
  }
  data = {
    password = random_password.redis.result
  }
}

# Redis, as in deploy/kubernetes/redis.yaml.
resource "kubernetes_manifest" "redis" {
  for_each = {
    for document in split("\n---\n", file("${path.module}/../kubernetes/redis.yaml")) :
    yamldecode(document).kind => yamldecode(document)
  }
  manifest = merge(each.value, {
    metadata = merge(each.value.metadata, { namespace = kubernetes_namespace_v1.metrics.metadata[0].name })
  })
  depends_on = [kubernetes_secret_v1.redis]
}

resource "kubernetes_deployment_v1" "exporter" {
  metadata {
    name      = "metrics-exporter"
    namespace = kubernetes_namespace_v1.metrics.metadata[0].name
    labels    = local.labels
  }
  spec {
    replicas = 1
    selector {
      match_labels = local.labels
    }
    template {
      metadata {
        labels = local.labels
        annotations = {
          "prometheus.io/scrape" = "true"
          "prometheus.io/port"   = "9091"
        }
      }
      spec {
        automount_service_account_token = false
        container {
          name  = "exporter"
          image = var.exporter_image
          args  = ["standalone"]
          env {
            name  = "REDIS_HOST"
            value = "metrics-redis"
          }
          env {
            name = "REDIS_PASSWORD"
            value_from {
              secret_key_ref {
                name = kubernetes_secret_v1.redis.metadata[0].name
                key  = "password"
              }
            }
          }
          port {
            name           = "metrics"
            container_port = 9091
          }
          liveness_probe {
            http_get {
              path = "/healthz"
              port = "metrics"
            }
          }
          readiness_probe {
            http_get {
              path = "/readyz"
              port = "metrics"
            }
          }
          security_context {
            allow_privilege_escalation = false
            read_only_root_filesystem  = true
            run_as_non_root            = true
            run_as_user                = 65532
            capabilities {
              drop = ["ALL"]
            }
          }
        }
      }
    }
  }
}

locals {
  labels = {
    "app.kubernetes.io/name" = "metrics-exporter"
  }
}

output "scrape" {
  description = "The address that Prometheus must scrape, once."
  value       = "the pod of deployment ${kubernetes_deployment_v1.exporter.metadata[0].name} in ${var.namespace}, port 9091"
}
