{{/* The prefix of every name: the release's name, which is unique in its namespace. */}}
{{- define "metrics.name" -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{/* The labels by which a selector finds the pods of one part: {{ include "metrics.selector" (list $ "exporter") }} */}}
{{- define "metrics.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
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
{{- end }}

{{/* Annotations, for scrape configurations that read them. */}}
{{- define "metrics.annotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: "9091"
prometheus.io/path: /metrics
{{- end }}

{{/* Settings of every pod. */}}
{{- define "metrics.pod" -}}
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
{{- end }}

{{/* Settings of every container: none runs as root, or writes to its image. */}}
{{- define "metrics.container" -}}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
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
{{- if .Values.redis.existingSecret }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.passwordKey }}}}
{{- else if .Values.redis.deploy }}
{{- fail "redis.existingSecret is needed where redis.deploy is true: a Redis without a password is open to the whole cluster" }}
{{- end }}
{{- end }}

{{/* The exporter's container, in either mode. */}}
{{- define "metrics.exporter" -}}
name: exporter
image: {{ .Values.exporter.image }}
args: [{{ .Values.mode }}]
ports: [{name: metrics, containerPort: 9091}]
livenessProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 10}
readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 5}
resources: {{ toYaml .Values.exporter.resources | nindent 2 }}
{{ include "metrics.container" . }}
{{- end }}
