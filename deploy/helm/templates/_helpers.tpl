{{/* The prefix of every name: by default the release's name, which is unique in its namespace. */}}
{{- define "metrics.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{/* The labels by which a selector finds the pods of one part: {{ include "metrics.selector" (list $ "exporter") }} */}}
{{- define "metrics.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ $root.Values.nameOverride | default $root.Chart.Name | trunc 63 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* The labels of an object. */}}
{{- define "metrics.labels" -}}
{{- $root := first . -}}
{{ include "metrics.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name, labels and annotations of an object: (list $ "-exporter" "exporter" annotations), and more labels if there are any */}}
{{- define "metrics.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "metrics.name" $root }}{{ index . 1 }}
labels: {{ include "metrics.labels" (list $root (index . 2)) | nindent 2 }}
{{- if gt (len .) 4 }}
{{- with index . 4 }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with merge (dict) (index . 3) $root.Values.commonAnnotations }}
annotations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Labels and annotations of the pods of one part: (list $ "exporter" values isTarget) */}}
{{- define "metrics.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
{{- $annotations := dict -}}
{{- if and (index . 3) $root.Values.scrape.annotations -}}
{{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" "9091" "prometheus.io/path" "/metrics" -}}
{{- end -}}
labels: {{ include "metrics.labels" (list $root (index . 1)) | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge $annotations $values.podAnnotations }}
annotations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image, from a text or from its parts: (list $ image) */}}
{{- define "metrics.image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- if kindIs "string" $image -}}
image: {{ $image | quote }}
{{- else -}}
{{- $registry := $image.registry | default $root.Values.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") -}}
image: {{ ternary (printf "%s@%s" $name $image.digest) (printf "%s:%s" $name ($image.tag | default $root.Chart.AppVersion)) (not (empty $image.digest)) | quote }}
imagePullPolicy: {{ $image.pullPolicy | default "IfNotPresent" }}
{{- end }}
{{- end }}

{{/* Settings of every pod. */}}
{{- define "metrics.pod" -}}
{{- $account := .Values.serviceAccount.name | default (ternary (include "metrics.name" .) "" .Values.serviceAccount.create) -}}
{{- with $account }}
serviceAccountName: {{ . }}
{{- end }}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Settings of every container: none runs as root, or writes to its image. */}}
{{- define "metrics.container" -}}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}

{{/* The variables of a container that its values name. */}}
{{- define "metrics.env" -}}
{{- with concat .env .extraEnv -}}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The secret with the password of Redis; empty for a Redis without one. */}}
{{- define "metrics.secret" -}}
{{- .Values.redis.existingSecret | default (ternary (printf "%s-redis" (include "metrics.name" .)) "" .Values.redis.deploy) -}}
{{- end }}

{{/* Variables that name the Redis, for the application and for the exporter. */}}
{{- define "metrics.redis" -}}
- {name: REDIS_ENABLED, value: "true"}
- name: REDIS_HOST
{{- if .Values.redis.deploy }}
  value: {{ include "metrics.name" . }}-redis
{{- else }}
  value: {{ required "redis.host is needed where redis.deploy is false" .Values.redis.host | quote }}
{{- end }}
- {name: REDIS_PORT, value: {{ .Values.redis.port | quote }}}
{{- with include "metrics.secret" . }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $.Values.redis.passwordKey }}}}
{{- end }}
{{- end }}

{{/* The exporter's container, in either mode. Beside an application it has no readiness probe, because a pod is ready only if all of its
     containers are: metrics that cannot be served must not take requests away from the application. */}}
{{- define "metrics.exporter" -}}
name: exporter
{{ include "metrics.image" (list . .Values.exporter.image) }}
args: {{ concat (list .Values.mode) .Values.exporter.extraArgs | toJson }}
ports: [{name: metrics, containerPort: 9091}]
{{- if eq .Values.mode "sidecar" }}
livenessProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 10, failureThreshold: 30}
{{- else }}
livenessProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 10}
readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 5}
{{- end }}
{{- with .Values.exporter.extraEnvFrom }}
envFrom: {{ toYaml . | nindent 2 }}
{{- end }}
resources: {{ toYaml .Values.exporter.resources | nindent 2 }}
{{ include "metrics.container" . }}
{{- end }}
